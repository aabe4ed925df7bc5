//! The policies in force: what the settings write, over what ships.

use std::collections::BTreeMap;

use crate::platform::settings::{LimitSettings, PolicySettings, RateLimitSettings, shipped_policies};
use crate::rate_limit::{Policy, RouteClass, SubjectKind};

/// Policies by class and whom they count. Each pair that [`RouteClass::counts`] names has one, unless the
/// settings say that it is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    by_place: BTreeMap<(RouteClass, SubjectKind), Policy>,
}

/// An entry of the settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitProblem {
    /// The entry's name.
    pub name: String,
    /// What is wrong with it.
    pub message: String,
}

impl Policies {
    /// What `settings` write; where they write nothing, what ships.
    ///
    /// # Errors
    /// Every entry that is wrong: a name that is no class and subject, numbers that do not fit (see
    /// [`Policy::new`]).
    pub fn new(settings: &RateLimitSettings) -> Result<Self, Vec<LimitProblem>> {
        let (mut by_place, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, limit) in shipped_policies() {
            if !settings.policies.contains_key(name) {
                let place = parse_name(name).expect("a shipped policy has the name of a place");
                by_place.insert(place, Policy::new(name, &limit).expect("a shipped policy is a right one"));
            }
        }
        for (name, written) in &settings.policies {
            let place = parse_name(name).ok_or_else(unknown_name);
            match place.and_then(|place| Ok((place, policy(name, written)?))) {
                Ok((place, Some(policy))) => drop(by_place.insert(place, policy)),
                Ok((_, None)) => {}
                Err(message) => problems.push(LimitProblem { name: name.clone(), message }),
            }
        }
        if problems.is_empty() { Ok(Self { by_place }) } else { Err(problems) }
    }

    /// The policy of `class` for subjects of `kind`; `None` if it is unlimited, or if the class does not
    /// count them.
    pub fn get(&self, class: RouteClass, kind: SubjectKind) -> Option<&Policy> {
        self.by_place.get(&(class, kind))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (RouteClass, SubjectKind, &Policy)> {
        self.by_place.iter().map(|((class, kind), policy)| (*class, *kind, policy))
    }
}

fn policy(name: &str, written: &PolicySettings) -> Result<Option<Policy>, String> {
    let limit: &LimitSettings = match written {
        PolicySettings::Limited(limit) => limit,
        PolicySettings::Unlimited(_) => return Ok(None),
    };
    // The problem's own name stands before it anyway.
    let problem = |text: String| text.strip_prefix(&format!("{name}: ")).map_or(text.clone(), str::to_owned);
    Policy::new(name, limit).map(Some).map_err(problem)
}

fn parse_name(name: &str) -> Option<(RouteClass, SubjectKind)> {
    let (class, kind) = name.split_once('.')?;
    let (class, kind) = (RouteClass::parse(class)?, SubjectKind::parse(kind)?);
    class.counts().contains(&kind).then_some((class, kind))
}

fn unknown_name() -> String {
    let names: Vec<_> = shipped_policies().map(|(name, _)| name).into();
    format!("not one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_ships_a_policy_for_each_whom_it_counts() {
        let policies = Policies::new(&RateLimitSettings::default()).expect("what ships is right");
        for class in RouteClass::ALL {
            for kind in class.counts() {
                let policy = policies.get(class, *kind).expect("there is one");
                assert_eq!(format!("{class}.{}", kind.as_str()), policy.name());
            }
        }
        assert_eq!(shipped_policies().len(), policies.iter().count());
    }

    #[test]
    fn what_is_not_written_is_as_shipped_and_only_a_word_lifts_a_limit() {
        let mut settings = RateLimitSettings { policies: BTreeMap::new(), ..RateLimitSettings::default() };
        assert_eq!(Policies::new(&RateLimitSettings::default()), Policies::new(&settings));
        settings.policies.insert("read.user".to_owned(), PolicySettings::UNLIMITED);
        let policies = Policies::new(&settings).expect("it is right");
        assert_eq!(None, policies.get(RouteClass::Read, SubjectKind::User));
        assert_eq!(shipped_policies().len() - 1, policies.iter().count());
        let nothing = Policies::new(&RateLimitSettings::unlimited()).expect("it is right");
        assert_eq!(0, nothing.iter().count());
    }

    #[test]
    fn the_word_and_the_numbers_are_read_and_nothing_else_is() {
        let read = |text: &str| serde_json::from_str::<PolicySettings>(text).ok();
        assert_eq!(Some(PolicySettings::UNLIMITED), read("\"unlimited\""));
        let numbers = LimitSettings { limit: 2, window_s: 60, burst: 1 };
        assert_eq!(Some(numbers.into()), read(r#"{"limit": 2, "window_s": 60, "burst": 1}"#));
        for text in ["\"none\"", "null", "0", "{}", r#"{"limit": 2, "window_s": 60}"#, r#"{"unlimited": true}"#] {
            assert_eq!(None, read(text), "{text}");
        }
    }
}
