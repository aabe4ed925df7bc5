//! What a new account is made of, and the rules it must keep.

use std::fmt;

use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::auth::AuthError;
use crate::invalid;

/// The longest password in characters. Longer ones are refused, never cut (NIST SP 800-63B §5.1.1.2).
pub(crate) const MAX_PASSWORD_CHARS: usize = 128;

/// The longest e-mail address in bytes (RFC 5321 §4.5.3.1.3, less the angle brackets).
pub(crate) const MAX_EMAIL_BYTES: usize = 254;

/// A person who wants an account.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterInput {
    /// An e-mail address; space around it and case do not matter.
    #[cfg_attr(feature = "openapi", schema(format = "email", max_length = 254))]
    pub email: String,
    /// The public name: 3 to 30 of `a-z`, `0-9` and `_`; case does not matter.
    #[cfg_attr(feature = "openapi", schema(min_length = 3, max_length = 30, pattern = "^[A-Za-z0-9_]+$"))]
    pub handle: String,
    /// The name shown, 1 to 80 characters without control characters. Default: the handle.
    #[serde(default)]
    #[cfg_attr(
        feature = "openapi",
        schema(
            min_length = 1,
            max_length = 80,
            pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
        )
    )]
    pub display_name: Option<String>,
    /// 10 to 128 characters of any kind. Only the length is judged (NIST SP 800-63B).
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "password", min_length = 10, max_length = 128))]
    pub password: SecretString,
}

impl fmt::Debug for RegisterInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterInput").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl RegisterInput {
    /// The input in the form that is stored, if it keeps every rule.
    pub(super) fn normalised(self) -> Result<Registration, AuthError> {
        let email = normalise_email(&self.email);
        let handle = self.handle.trim().to_ascii_lowercase();
        let display_name = self.display_name.map_or_else(|| handle.clone(), |name| name.trim().to_owned());
        let rules = Rules {
            email: &email,
            handle: &handle,
            display_name: &display_name,
            password: self.password.expose_secret(),
        };
        rules.validate().map_err(|report| AuthError::Invalid(invalid::problems(&report)))?;
        Ok(Registration { email, handle, display_name, password: self.password })
    }
}

/// An input that keeps every rule.
pub(super) struct Registration {
    pub(super) email: String,
    pub(super) handle: String,
    pub(super) display_name: String,
    pub(super) password: SecretString,
}

/// The form in which addresses are stored and compared: trimmed and lower case.
pub(super) fn normalise_email(text: &str) -> String {
    text.trim().to_lowercase()
}

/// The name in the form that is stored, if it keeps the rules of a display name.
pub(super) fn checked_display_name(text: &str) -> Result<String, AuthError> {
    let name = text.trim();
    DisplayName { display_name: name }.validate().map_err(|report| AuthError::Invalid(invalid::problems(&report)))?;
    Ok(name.to_owned())
}

#[derive(Validate)]
struct Rules<'a> {
    #[garde(email, length(max = MAX_EMAIL_BYTES))]
    email: &'a str,
    #[garde(custom(handle_characters), length(chars, min = 3, max = 30))]
    handle: &'a str,
    #[garde(custom(no_control_characters), length(chars, min = 1, max = 80))]
    display_name: &'a str,
    #[garde(length(chars, min = 10, max = MAX_PASSWORD_CHARS))]
    password: &'a str,
}

#[derive(Validate)]
struct DisplayName<'a> {
    #[garde(custom(no_control_characters), length(chars, min = 1, max = 80))]
    display_name: &'a str,
}

fn handle_characters(value: &&str, _: &()) -> garde::Result {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if value.bytes().all(allowed) { Ok(()) } else { Err(garde::Error::new("only a-z, 0-9 and _ are allowed")) }
}

fn no_control_characters(value: &&str, _: &()) -> garde::Result {
    if value.chars().any(char::is_control) {
        return Err(garde::Error::new("control characters are not allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> RegisterInput {
        RegisterInput {
            email: " Ada@Example.ORG ".to_owned(),
            handle: "Ada_99".to_owned(),
            display_name: None,
            password: "ten letters".into(),
        }
    }

    fn broken_fields(input: RegisterInput) -> Vec<String> {
        match input.normalised() {
            Ok(_) => Vec::new(),
            Err(AuthError::Invalid(problems)) => problems.into_iter().map(|problem| problem.field).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn addresses_and_handles_are_stored_in_one_spelling() {
        let registration = input().normalised().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!("ada@example.org", registration.email);
        assert_eq!(("ada_99", "ada_99"), (registration.handle.as_str(), registration.display_name.as_str()));
    }

    #[test]
    fn the_last_allowed_value_passes_and_the_first_beyond_is_refused() {
        let handle = |text: &str| broken_fields(RegisterInput { handle: text.to_owned(), ..input() });
        assert_eq!(["/handle"][..], handle("ab"));
        assert!(handle("abc").is_empty());
        assert!(handle(&"a".repeat(30)).is_empty());
        assert_eq!(["/handle"][..], handle(&"a".repeat(31)));
        assert_eq!(["/handle"][..], handle("a-b-c"));
        assert_eq!(["/handle"][..], handle("äöü"));

        let password = |chars: usize| broken_fields(RegisterInput { password: "ä".repeat(chars).into(), ..input() });
        assert_eq!(["/password"][..], password(9));
        assert!(password(10).is_empty());
        assert!(password(128).is_empty());
        assert_eq!(["/password"][..], password(129));

        let name = |text: &str| broken_fields(RegisterInput { display_name: Some(text.to_owned()), ..input() });
        assert_eq!(["/display_name"][..], name("  "));
        assert!(name(&"é".repeat(80)).is_empty());
        assert_eq!(["/display_name"][..], name(&"é".repeat(81)));
        assert_eq!(["/display_name"][..], name("a\u{7}b"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "ada", "ada@", "@example.org", "a b@example.org", "ada@exa mple.org", "ada@example.org\n.x"] {
            assert_eq!(["/email"][..], broken_fields(RegisterInput { email: bad.to_owned(), ..input() }), "{bad:?}");
        }
        let long = format!("{}@{}.org", "a".repeat(64), "b".repeat(63));
        assert!(broken_fields(RegisterInput { email: long, ..input() }).is_empty());
    }

    #[test]
    fn every_broken_field_is_reported_at_once_and_no_value_is_repeated() {
        let input = RegisterInput {
            email: "nowhere".to_owned(),
            handle: "!".to_owned(),
            display_name: Some(String::new()),
            password: "hunter2".into(),
        };
        let Err(AuthError::Invalid(problems)) = input.normalised() else { panic!("it is refused") };
        let fields: std::collections::BTreeSet<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(["/display_name", "/email", "/handle", "/password"][..], fields.into_iter().collect::<Vec<_>>());
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
}
