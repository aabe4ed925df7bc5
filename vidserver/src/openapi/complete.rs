//! What no route says for itself: title, token scheme, the shape of headers, and the refusals that
//! can meet any request.
//!
//! Each rule follows from what stands around the routes; a test holds every answer it sees to the
//! document, so that a rule that is forgotten here is noticed.

use utoipa::openapi::path::{HttpMethod, Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Schema,
};
use utoipa::{PartialSchema, ToSchema};

use super::BEARER;
use crate::problem::{PROBLEM_JSON, ProblemBody};

/// One or more entity tags, or `*` (RFC 9110 §13.1.1).
const IF_MATCH: &str = r#"^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*"){0,63})$"#;

/// Visible ASCII.
const IDEMPOTENCY_KEY: &str = "^[!-~]+$";

/// A refusal that belongs to the surroundings of a route: its name among the responses, its status,
/// its codes.
struct Refusal {
    name: &'static str,
    status: &'static str,
    description: &'static str,
}

const REFUSALS: [Refusal; 11] = [
    Refusal { name: "BadRequest", status: "400", description: "`bad_request`, `invalid_query`" },
    Refusal {
        name: "BadBody",
        status: "400",
        description: "`bad_request`, `malformed_json`, `invalid_query`, `body_incomplete`",
    },
    Refusal { name: "BodyTooSlow", status: "408", description: "`request_timeout`" },
    Refusal { name: "InProgress", status: "409", description: "`request_in_progress`" },
    Refusal { name: "BodyTooLarge", status: "413", description: "`body_too_large`" },
    Refusal { name: "UnsupportedMediaType", status: "415", description: "`unsupported_media_type`" },
    Refusal { name: "KeyReused", status: "422", description: "`idempotency_key_reused`" },
    Refusal {
        name: "RateLimited",
        status: "429",
        description: "`rate_limited`, with `policy`, `Retry-After`, `RateLimit-Policy`, `RateLimit` and `X-RateLimit-*`",
    },
    Refusal { name: "Internal", status: "500", description: "`internal`" },
    Refusal {
        name: "Unavailable",
        status: "503",
        description: "`unavailable`, `overloaded` or `timeout`, with `Retry-After`",
    },
    Refusal { name: "StorageFull", status: "507", description: "`storage_full`, with `Retry-After`" },
];

/// Adds all of it.
pub(crate) fn complete(document: &mut OpenApi) {
    document.info = InfoBuilder::new()
        .title("vidcore")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A video-sharing backend. Errors are RFC 9457 problems; lists page by opaque cursors."))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build()))
        .build();
    add_components(document.components.get_or_insert_with(Components::new));
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    describe_header(parameter);
                }
            }
            add_refusals(path, &method, operation);
        }
    }
}

fn add_components(components: &mut Components) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let (name, schema) = (ProblemBody::name(), ProblemBody::schema());
    components.schemas.entry(name.into_owned()).or_insert(schema);
    let mut nested = Vec::new();
    ProblemBody::schemas(&mut nested);
    for (name, schema) in nested {
        components.schemas.entry(name).or_insert(schema);
    }
    for refusal in &REFUSALS {
        components.responses.insert(refusal.name.to_owned(), RefOr::T(problem(refusal.description)));
    }
}

fn problem(description: &str) -> Response {
    let body = Ref::from_schema_name(ProblemBody::name());
    let content = ContentBuilder::new().schema(Some(body)).build();
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    [
        (HttpMethod::Get, item.get.as_mut()),
        (HttpMethod::Put, item.put.as_mut()),
        (HttpMethod::Post, item.post.as_mut()),
        (HttpMethod::Patch, item.patch.as_mut()),
        (HttpMethod::Delete, item.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation?)))
}

/// The shape of the headers that several routes take: what does not have it is refused with 400.
fn describe_header(parameter: &mut Parameter) {
    if parameter.parameter_in != ParameterIn::Header {
        return;
    }
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    let schema = match parameter.name.as_str() {
        "If-Match" => text.pattern(Some(IF_MATCH)).examples(["*", "\"3-0123456789abcdef\""]),
        "Idempotency-Key" => text.pattern(Some(IDEMPOTENCY_KEY)).min_length(Some(1)).max_length(Some(255)),
        // A range that cannot be read is no range (RFC 9110 §14.2).
        _ => text,
    };
    parameter.schema = Some(RefOr::T(Schema::Object(schema.build())));
}

fn add_refusals(path: &str, method: &HttpMethod, operation: &mut Operation) {
    if !path.starts_with("/api/v1/") {
        return;
    }
    let names = refusals_of(path, method, operation);
    for refusal in REFUSALS.iter().filter(|refusal| names.contains(&refusal.name)) {
        let reference = RefOr::Ref(Ref::from_response_name(refusal.name));
        operation.responses.responses.entry(refusal.status.to_owned()).or_insert(reference);
    }
}

fn refusals_of(path: &str, method: &HttpMethod, operation: &Operation) -> Vec<&'static str> {
    let mut names = vec!["Internal", "Unavailable"];
    // The document is served to everybody at any rate.
    if path != "/api/v1/openapi.json" {
        names.push("RateLimited");
    }
    match method {
        HttpMethod::Get => names.extend(may_be_malformed(path, operation).then_some("BadRequest")),
        // The size of an upload is its own rule.
        HttpMethod::Put => names.extend(["BadBody", "BodyTooSlow", "StorageFull"]),
        _ => names.extend(["BadBody", "BodyTooSlow", "BodyTooLarge", "StorageFull"]),
    }
    if parameters(operation).any(|parameter| parameter.name == "Idempotency-Key") {
        names.extend(["InProgress", "KeyReused"]);
    }
    if let Some(RefOr::T(body)) = &operation.request_body
        && body.content.keys().any(|name| name.ends_with("json"))
    {
        names.push("UnsupportedMediaType");
    }
    names
}

/// Whether a read takes a query, or an `If-None-Match` that is parsed; playback is lenient about it.
fn may_be_malformed(path: &str, operation: &Operation) -> bool {
    let conditional = operation.responses.responses.contains_key("304") && !path.contains("/playback/");
    conditional || parameters(operation).any(|parameter| parameter.parameter_in == ParameterIn::Query)
}

fn parameters(operation: &Operation) -> impl Iterator<Item = &Parameter> {
    operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    })
}
