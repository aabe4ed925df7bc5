//! Merging the sources over the defaults, one key at a time, so that every wrong key is reported.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use ::config::{Environment, File, FileFormat, Source, Value as Found, ValueKind};
use serde_json::{Map, Value};
use vidcore::platform::Settings;

use super::{Config, Own, check};

/// Prefix of the variables; levels are joined by two underscores, as in `VID_SERVER__LISTEN`.
const PREFIX: &str = "VID_";

/// Variables with the prefix that are no settings: the file's name, and what tests and crash tests use.
const NOT_SETTINGS: &[&str] = &["VID_CONFIG", "VID_TEST_REQUIRE"];

/// Tables in which the caller chooses the names.
const OPEN_TABLES: &[&str] = &["rate_limits.policies"];

/// Where settings come from; the later ones win.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file; without one the defaults stand.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not start with `VID_` are ignored.
    pub variables: HashMap<String, String>,
    /// Flags: dotted keys with their text, such as `server.listen`.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The process's own environment, with a file.
    ///
    /// Variables that are not Unicode are left out, as no setting has such a name or value.
    pub fn from_environment(file: Option<PathBuf>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, variables, flags: Vec::new() }
    }

    /// Adds a flag, if it was given.
    #[must_use]
    pub fn flag(mut self, key: &str, value: Option<impl fmt::Display>) -> Self {
        self.flags.extend(value.map(|value| (key.to_owned(), value.to_string())));
        self
    }
}

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}{}", origin.as_ref().map(|origin| format!(" (from {origin})")).unwrap_or_default())]
pub struct ConfigProblem {
    /// Its dotted key.
    pub key: String,
    /// What is wrong with it. Repeats no value: it may be a secret.
    pub message: String,
    /// Where the value came from, if it was set.
    pub origin: Option<String>,
}

impl ConfigProblem {
    pub(super) fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into(), origin: None }
    }

    fn from(origin: Option<&str>, key: &str, message: impl Into<String>) -> Self {
        Self { origin: origin.map(str::to_owned), ..Self::new(key, message) }
    }
}

/// All settings that cannot be used, one per line; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigProblems {}

pub(super) fn load(sources: &Sources) -> Result<Config, ConfigProblems> {
    let found = collect(sources).map_err(|problem| ConfigProblems(vec![problem]))?;
    let mut merge = Merge { tree: Config::defaults(), problems: Vec::new() };
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, value) in &found {
        merge.apply(std::slice::from_ref(key), value);
    }
    let config = merge.problems.is_empty().then(|| parse(&merge.tree));
    match config {
        Some(Ok(config)) => {
            let problems = check::check(&config);
            if problems.is_empty() { Ok(config) } else { Err(ConfigProblems(problems)) }
        }
        Some(Err(message)) => Err(ConfigProblems(vec![ConfigProblem::new("", message)])),
        None => {
            // What could be read is checked as well: the rest of the list should not wait for a
            // second start.
            if let Ok(config) = parse(&merge.tree) {
                merge.problems.extend(check::check(&config));
            }
            Err(ConfigProblems(merge.problems))
        }
    }
}

fn collect(sources: &Sources) -> Result<::config::Map<String, Found>, ConfigProblem> {
    let mut variables: HashMap<_, _> = sources.variables.clone();
    variables.retain(|name, _| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()));
    let mut builder = ::config::Config::builder();
    if let Some(file) = &sources.file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigProblem::new(&file.display().to_string(), error.to_string()))?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    builder = builder.add_source(
        Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("_")
            .separator("__")
            .source(Some(variables)),
    );
    for (key, value) in &sources.flags {
        let value = Found::new(Some(&"the command line".to_owned()), ValueKind::String(value.clone()));
        builder = builder.set_override(key, value).map_err(|error| ConfigProblem::new(key, error.to_string()))?;
    }
    let whole = |error: ::config::ConfigError| {
        let name = sources.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
        ConfigProblem::new(&name, error.to_string())
    };
    builder.build().map_err(whole)?.collect().map_err(whole)
}

/// The defaults with what was found laid over them.
struct Merge {
    tree: Value,
    problems: Vec<ConfigProblem>,
}

impl Merge {
    fn apply(&mut self, path: &[String], found: &Found) {
        let key = path.join(".");
        if is_new_entry(path) {
            // None of its members has a default, so it is taken or refused as a whole.
            match to_json(found, &Value::Null) {
                Ok(value) => self.apply_leaf(path, value, found.origin()),
                Err(message) => self.problems.push(ConfigProblem::from(found.origin(), &key, message)),
            }
            return;
        }
        let Some(default) = lookup(&Config::defaults(), path) else {
            self.problems.push(ConfigProblem::from(found.origin(), &key, "unknown setting"));
            return;
        };
        match (&found.kind, &default) {
            (ValueKind::Table(table), Value::Object(_)) => self.apply_all(path, table),
            _ => match to_json(found, &default) {
                Ok(value) => self.apply_leaf(path, value, found.origin()),
                Err(message) => self.problems.push(ConfigProblem::from(found.origin(), &key, message)),
            },
        }
    }

    fn apply_all(&mut self, path: &[String], table: &::config::Map<String, Found>) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| *name);
        for (name, value) in entries {
            let path: Vec<String> = path.iter().chain([name]).cloned().collect();
            self.apply(&path, value);
        }
    }

    /// Keeps the value if the settings can be read with it.
    fn apply_leaf(&mut self, path: &[String], value: Value, origin: Option<&str>) {
        let before = self.tree.clone();
        store(&mut self.tree, path, value);
        if let Err(message) = parse(&self.tree) {
            self.tree = before;
            self.problems.push(ConfigProblem::from(origin, &path.join("."), message));
        }
    }
}

/// Splits the tree again into the platform's part and our own, and reads both.
fn parse(tree: &Value) -> Result<Config, String> {
    let mut platform = tree.as_object().cloned().unwrap_or_default();
    let mut own = Map::new();
    for section in ["server", "http", "log"] {
        own.extend(platform.remove_entry(section));
    }
    let platform: Settings = serde_json::from_value(Value::Object(platform)).map_err(|error| safe(&error))?;
    let own: Own = serde_json::from_value(Value::Object(own)).map_err(|error| safe(&error))?;
    Ok(Config { platform, server: own.server, http: own.http, log: own.log })
}

/// serde's messages quote the value before "expected"; only what follows is safe to print.
fn safe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once("expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if text.starts_with("missing field") => text,
        None => "not an acceptable value".to_owned(),
    }
}

fn lookup(tree: &Value, path: &[String]) -> Option<Value> {
    path.iter().try_fold(tree, |at, name| at.get(name)).cloned()
}

/// Whether the path names an entry of an open table that the defaults do not have.
fn is_new_entry(path: &[String]) -> bool {
    let Some((_, table)) = path.split_last() else { return false };
    OPEN_TABLES.contains(&table.join(".").as_str()) && lookup(&Config::defaults(), path).is_none()
}

fn store(tree: &mut Value, path: &[String], value: Value) {
    let mut at = tree;
    for name in path {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = at.as_object_mut().expect("made one just above").entry(name.clone()).or_insert(Value::Null);
    }
    *at = value;
}

/// A found value as JSON. Text from variables and flags takes the form the default has.
fn to_json(found: &Found, default: &Value) -> Result<Value, String> {
    let from_text = found.origin().is_some();
    Ok(match &found.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => Value::from(*value),
        ValueKind::I64(value) => Value::from(*value),
        ValueKind::U64(value) => Value::from(*value),
        ValueKind::I128(value) => Value::from(i64::try_from(*value).map_err(|_| "number is too large")?),
        ValueKind::U128(value) => Value::from(u64::try_from(*value).map_err(|_| "number is too large")?),
        ValueKind::Float(value) => Value::from(*value),
        ValueKind::String(text) if from_text => parse_text(text, default)?,
        ValueKind::String(text) => Value::from(text.as_str()),
        ValueKind::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| to_json(item, &Value::Null)).collect();
            Value::Array(items?)
        }
        ValueKind::Table(table) => {
            let entries: Result<Map<_, _>, String> =
                table.iter().map(|(name, value)| Ok((name.clone(), to_json(value, &Value::Null)?))).collect();
            Value::Object(entries?)
        }
    })
}

fn parse_text(text: &str, default: &Value) -> Result<Value, String> {
    match default {
        Value::Bool(_) => text.parse().map(Value::Bool).map_err(|_| "expected true or false".to_owned()),
        Value::Number(_) => text.parse::<u64>().map(Value::from).map_err(|_| "expected a whole number".to_owned()),
        Value::Array(_) if text.trim().is_empty() => Ok(Value::Array(Vec::new())),
        Value::Array(_) => Ok(text.split(',').map(|item| Value::from(item.trim())).collect()),
        _ => Ok(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vidcore::platform::settings::{LimitSettings, PolicySettings};

    use super::*;

    fn file(text: &str) -> (tempfile::NamedTempFile, Sources) {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("room for a few bytes");
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        (file, sources)
    }

    fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn keys(sources: &Sources) -> Vec<String> {
        let problems = Config::load(sources).expect_err("problems");
        problems.0.into_iter().map(|problem| problem.key).collect()
    }

    #[test]
    fn without_sources_the_defaults_stand() {
        assert_eq!(Ok(Config::default()), Config::load(&Sources::default()));
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_file() {
        let (_file, mut sources) = file("data_dir = 'f'\n[server]\nlisten = '127.0.0.1:1'\ndrain_ms = 5\n");
        sources.variables = variables(&[("VID_SERVER__LISTEN", "127.0.0.1:2"), ("VID_DATA_DIR", "v"), ("PATH", "x")]);
        let sources = sources.flag("server.listen", Some("127.0.0.1:3")).flag("data_dir", None::<&str>);
        let config = Config::load(&sources).expect("a config");
        assert_eq!((3, 5), (config.server.listen.port(), config.server.drain_ms));
        assert_eq!("v", config.platform.data_dir.display().to_string());
    }

    #[test]
    fn variables_take_the_form_of_the_setting() {
        let sources = Sources {
            variables: variables(&[
                ("VID_AUTH__ISSUER", "12345"),
                ("VID_WORKER__ENABLED", "false"),
                ("VID_HTTP__CORS_ORIGINS", "https://a.example, https://b.example"),
                ("VID_MEDIA__FFMPEG", "/opt/ffmpeg"),
                ("VID_MEDIA__TRANSCODER", "simulated"),
                ("VID_TEST_REQUIRE", "all"),
            ]),
            ..Sources::default()
        };
        let config = Config::load(&sources).expect("a config");
        assert_eq!("12345", config.platform.auth.issuer);
        assert!(!config.platform.worker.enabled);
        assert_eq!(2, config.http.cors_origins.len());
        assert_eq!(PathBuf::from("/opt/ffmpeg"), config.platform.media.ffmpeg);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let (_file, mut sources) = file("colour = 'red'\n[server]\nlisten = 'nowhere'\n[sqlite]\nqueue_depth = 'x'\n");
        sources.variables = variables(&[("VID_LOG__FORMAT", "xml"), ("VID_WORKER__LEASE_MS", "soon")]);
        let mut keys = keys(&sources);
        keys.sort();
        assert_eq!(vec!["colour", "log.format", "server.listen", "sqlite.queue_depth", "worker.lease_ms"], keys);
    }

    #[test]
    fn a_problem_names_its_origin_and_never_its_value() {
        let sources = Sources { variables: variables(&[("VID_LOG__FORMAT", "hunter2")]), ..Sources::default() };
        let text = Config::load(&sources).expect_err("a problem").to_string();
        assert!(text.starts_with("log.format: expected") && text.contains("the environment"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_policy_is_added_to_the_others_or_changes_one() {
        let (_file, sources) = file(
            "[rate_limits.policies.'write.user']\nlimit = 50\n\
             [rate_limits.policies]\n'read.user' = 'unlimited'\n\
             [rate_limits.policies.'login.account']\nlimit = 9\nwindow_s = 60\nburst = 3\n",
        );
        let policies = Config::load(&sources).expect("a config").platform.rate_limits.policies;
        let limit = |limit, window_s, burst| PolicySettings::from(LimitSettings { limit, window_s, burst });
        assert_eq!(limit(50, 3600, 20), policies["write.user"]);
        assert_eq!(limit(9, 60, 3), policies["login.account"]);
        assert_eq!(PolicySettings::UNLIMITED, policies["read.user"]);
        assert_eq!(limit(6000, 60, 1200), policies["read.address"]);
    }

    #[test]
    fn a_half_written_policy_is_a_problem() {
        let (_file, sources) = file("[rate_limits.policies.'upload.key']\nlimit = 9\n");
        assert_eq!(vec!["rate_limits.policies.upload.key"], keys(&sources));
        let (_file, sources) = file("[rate_limits.policies.'write.user']\ncolour = 9\n");
        assert_eq!(vec!["rate_limits.policies.write.user.colour"], keys(&sources));
    }

    #[test]
    fn a_file_that_is_not_there_or_not_toml_is_a_problem() {
        let missing = Sources { file: Some("no/such/file.toml".into()), ..Sources::default() };
        assert_eq!(vec!["no/such/file.toml"], keys(&missing));
        let (_file, sources) = file("listen = ");
        assert_eq!(1, keys(&sources).len());
    }
}
