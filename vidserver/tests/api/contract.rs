//! Every answer a test sees is held to the OpenAPI document: its status, its type, its body.

use http::Method;
use serde_json::{Map, Value, json};

use crate::app::Answer;

/// The document, to look answers up in.
#[derive(Debug)]
pub(crate) struct Contract {
    document: Value,
}

impl Contract {
    pub(crate) fn new(document: &utoipa::openapi::OpenApi) -> Self {
        Self { document: serde_json::to_value(document).expect("a document is JSON") }
    }

    /// Path templates with their operations by method.
    pub(crate) fn paths(&self) -> &Map<String, Value> {
        self.document["paths"].as_object().expect("paths")
    }

    /// Panics if the document does not say that such a request may get such an answer. Paths and
    /// methods that are not documented are left to the tests that are about them.
    pub(crate) fn check(&self, method: &Method, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap_or_default();
        let Some((template, operations)) = self.find(path) else { return };
        let name = match operations.get("head") {
            None if method == Method::HEAD => "get".to_owned(),
            _ => method.as_str().to_lowercase(),
        };
        let Some(operation) = operations.get(&name) else { return };
        let what = format!("{method} {template}: {}", answer.status);
        let documented = &operation["responses"][answer.status.to_string()];
        let documented = self.resolve(documented);
        assert!(documented.is_object(), "{what} is not documented: {}", String::from_utf8_lossy(&answer.body));
        if method == Method::HEAD || answer.body.is_empty() {
            return;
        }
        let content_type = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
        let contents = documented["content"].as_object().unwrap_or_else(|| panic!("{what} documents no body"));
        let found = contents.iter().find(|(name, _)| {
            **name == content_type || name.strip_suffix('*').is_some_and(|prefix| content_type.starts_with(prefix))
        });
        let (_, content) = found.unwrap_or_else(|| panic!("{what} does not document {content_type}"));
        if content_type.ends_with("json") && !content["schema"].is_null() {
            let mut problems = Vec::new();
            self.compare(&content["schema"], &answer.json(), "", &mut problems);
            assert!(problems.is_empty(), "{what}: {problems:?}");
        }
    }

    fn find(&self, path: &str) -> Option<(&String, &Value)> {
        let fits = |template: &str| {
            let (mut wanted, mut found) = (template.split('/'), path.split('/'));
            let all =
                wanted.by_ref().zip(found.by_ref()).all(|(wanted, found)| wanted.starts_with('{') || wanted == found);
            all && template.split('/').count() == path.split('/').count()
        };
        // The most literal template is the one the router takes.
        self.paths()
            .iter()
            .filter(|(template, _)| fits(template))
            .min_by_key(|(template, _)| template.matches('{').count())
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("references stay within the document");
                self.document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
            }
            None => schema,
        }
    }

    /// Collects what of `value` the schema does not allow. Members it does not name are not allowed:
    /// an answer says no more than its document.
    fn compare(&self, schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
        let schema = self.resolve(schema);
        if schema["allOf"].is_array() {
            return self.compare(&self.merged(schema), value, at, problems);
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[choice].as_array() {
                let fits = |schema: &Value| {
                    let mut found = Vec::new();
                    self.compare(schema, value, at, &mut found);
                    found.is_empty()
                };
                if !choices.iter().any(fits) {
                    problems.push(format!("{at} fits none of {choice}: {value}"));
                }
                return;
            }
        }
        if !type_fits(&schema["type"], value) {
            return problems.push(format!("{at} is {value}, not {}", schema["type"]));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            problems.push(format!("{at} is {value}, not one of {allowed:?}"));
        }
        match value {
            Value::Object(members) => self.compare_members(schema, members, at, problems),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.compare(&schema["items"], item, &format!("{at}/{index}"), problems);
                }
            }
            Value::Number(number) => {
                let (number, bound) = (number.as_f64(), |name: &str| schema[name].as_f64());
                if bound("minimum").is_some_and(|least| number < Some(least))
                    || bound("maximum").is_some_and(|most| number > Some(most))
                {
                    problems.push(format!("{at} is out of range: {value}"));
                }
            }
            _ => {}
        }
    }

    /// All parts of an `allOf` as one object: no part knows the members of the others.
    fn merged(&self, schema: &Value) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for part in schema["allOf"].as_array().into_iter().flatten().map(|part| self.resolve(part)) {
            properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
            required.extend(part["required"].as_array().cloned().unwrap_or_default());
        }
        json!({"type": "object", "properties": properties, "required": required})
    }

    fn compare_members(&self, schema: &Value, members: &Map<String, Value>, at: &str, problems: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else { return };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                problems.push(format!("{at}/{name} is missing"));
            }
        }
        for (name, value) in members {
            match properties.get(name) {
                Some(schema) => self.compare(schema, value, &format!("{at}/{name}"), problems),
                None => problems.push(format!("{at}/{name} is not documented")),
            }
        }
    }
}

fn type_fits(wanted: &Value, value: &Value) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match wanted {
        Value::String(wanted) => wanted == name,
        Value::Array(wanted) => wanted.iter().any(|wanted| wanted == name),
        _ => true,
    }
}
