//! What a `vidserver` process can be told: one TOML file, `VID_` variables over it, flags over both.
//!
//! Settings of the platform stand at the top level of the file as [`Settings`] has them; the server's
//! own stand in `[server]`, `[http]` and `[log]`. `docs/config.md` lists every key, and a test holds
//! it to that.

mod check;
mod load;
mod server;

pub use load::{ConfigProblem, ConfigProblems, Sources};
pub use server::{HttpSettings, LogFormat, LogSettings, ServerSettings};

use serde::{Deserialize, Serialize};
use vidcore::platform::Settings;

/// Everything a process is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// The platform's part.
    pub platform: Settings,
    /// Sockets and connections.
    pub server: ServerSettings,
    /// Requests.
    pub http: HttpSettings,
    /// Logs.
    pub log: LogSettings,
}

impl Config {
    /// Reads the sources and checks every value.
    ///
    /// # Errors
    /// All problems at once, each with the key it is about and where the value came from.
    pub fn load(sources: &Sources) -> Result<Self, ConfigProblems> {
        load::load(sources)
    }

    /// Every key with its default, as one tree: what the file would look like.
    pub fn defaults() -> serde_json::Value {
        let config = Self::default();
        let mut tree = serde_json::to_value(&config.platform).expect("settings are plain data");
        let own = Own { server: config.server, http: config.http, log: config.log };
        let own = serde_json::to_value(own).expect("settings are plain data");
        if let (Some(tree), serde_json::Value::Object(own)) = (tree.as_object_mut(), own) {
            tree.extend(own);
        }
        tree
    }
}

/// The sections that are not the platform's. Not flattened by serde, which would then take any
/// unknown key in silence.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Own {
    server: ServerSettings,
    http: HttpSettings,
    log: LogSettings,
}
