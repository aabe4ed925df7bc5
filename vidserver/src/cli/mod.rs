//! The command line: one file per verb.

mod cache;
mod demo;
mod doctor;
mod jobs;
mod keys;
mod migrate;
mod openapi;
mod output;
mod printable;
mod serve;
mod storage;
mod users;
mod visit;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::printable::printable;
use crate::config::{Config, Sources};
use crate::logging::whole_story;

/// What a command that failed says on standard error.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// A video-sharing backend in one program.
#[derive(Debug, Parser)]
#[command(name = "vidserver", version, about, long_about = None)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Settings every command takes; each stands above its variable and the file.
#[derive(Debug, Args)]
struct Global {
    /// TOML file with settings
    #[arg(long, global = true, env = "VID_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the database, keys, objects and staging [setting: data_dir]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A level, or directives such as `info,vidserver::access=off` [setting: log.level]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// `json` or `text` [setting: log.format]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API until told to stop
    Serve(ServeFlags),
    /// Walk a video from upload to playback on a server of its own, then keep serving
    Demo(demo::DemoFlags),
    /// Bring the database up to date
    Migrate,
    /// Check everything that must always be true, and repair it: exits with 0 if all is sound, with 1 if
    /// something was found and not repaired, with 2 if it could not be checked
    Doctor(doctor::DoctorFlags),
    /// Move objects to another place, while servers and workers run
    #[command(subcommand)]
    Storage(storage::StorageCommand),
    /// Print the OpenAPI document
    Openapi,
    /// Make, list and rotate keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// List accounts and set roles
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Show what the caches of a running process do
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Look at jobs and queues and steer them, beside whatever else is running
    Jobs(jobs::JobsArguments),
}

/// Flags of `serve`.
#[derive(Debug, Args)]
struct ServeFlags {
    /// Address and port of the API; port 0 takes a free one [setting: server.listen]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address and port of /metrics [setting: server.metrics_listen]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// Where clients reach the server [setting: public_url]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Leave background jobs to separate workers [setting: worker.enabled]
    #[arg(long)]
    no_worker: bool,
}

impl Cli {
    /// Runs the command and says what went wrong on standard error.
    pub async fn run(self) -> ExitCode {
        let failed = self.command.failed();
        let outcome = self.execute().await;
        crate::logging::flush();
        match outcome {
            Ok(code) => code,
            Err(error) => {
                // Nothing is left to tell if standard error is closed.
                let _ = writeln!(std::io::stderr(), "vidserver: {}", whole_story(&*error));
                failed
            }
        }
    }

    async fn execute(self) -> Result<ExitCode, CommandError> {
        let sources = self.global.sources();
        let done = match self.command {
            Command::Serve(flags) => serve::run(Config::load(&flags.over(sources))?).await,
            Command::Demo(flags) => {
                let quiet = self.global.log_level.is_none().then_some("error");
                demo::run(Config::load(&sources.flag("log.level", quiet))?, flags).await
            }
            Command::Migrate => migrate::run(Config::load(&sources)?).await,
            Command::Openapi => openapi::run(),
            Command::Keys(command) => keys::run(&Config::load(&sources)?, &command),
            Command::Users(command) => {
                let quiet = self.global.log_level.is_none().then_some("error");
                users::run(Config::load(&sources.flag("log.level", quiet))?, command).await
            }
            Command::Jobs(arguments) => {
                let quiet = self.global.log_level.is_none().then_some("error");
                jobs::run(Config::load(&sources.flag("log.level", quiet))?, arguments).await
            }
            Command::Storage(command) => {
                let quiet = self.global.log_level.is_none().then_some("error");
                storage::run(Config::load(&sources.flag("log.level", quiet))?, command).await
            }
            Command::Cache(command) => {
                let quiet = self.global.log_level.is_none().then_some("error");
                cache::run(Config::load(&sources.flag("log.level", quiet))?, command).await
            }
            Command::Doctor(flags) => {
                let quiet = self.global.log_level.is_none().then_some("error");
                return doctor::run(Config::load(&sources.flag("log.level", quiet))?, flags).await;
            }
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

impl Command {
    /// What the program ends with if the command cannot be carried out.
    fn failed(&self) -> ExitCode {
        match self {
            // 1 means that something was found.
            Self::Doctor(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

impl Global {
    fn sources(&self) -> Sources {
        Sources::from_environment(self.config.clone())
            .flag("data_dir", self.data_dir.as_ref().map(|folder| folder.display()))
            .flag("log.level", self.log_level.as_ref())
            .flag("log.format", self.log_format.as_ref())
    }
}

impl ServeFlags {
    fn over(self, sources: Sources) -> Sources {
        sources
            .flag("server.listen", self.listen)
            .flag("server.metrics_listen", self.metrics_listen)
            .flag("public_url", self.public_url)
            .flag("worker.enabled", self.no_worker.then_some(false))
    }
}

/// A line on standard output.
fn say(line: &str) -> Result<(), CommandError> {
    writeln!(std::io::stdout(), "{line}").map_err(CommandError::from)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::try_parse_from([
            "vidserver",
            "serve",
            "--no-worker",
            "--listen",
            "127.0.0.1:7",
            "--log-level",
            "warn",
        ])
        .expect("a command line");
        let sources = Sources { flags: cli.global.sources().flags, ..Sources::default() };
        let Command::Serve(flags) = cli.command else { panic!("serve was asked for") };
        let config = Config::load(&flags.over(sources)).expect("a config");
        assert_eq!(7, config.server.listen.port());
        assert!(!config.platform.worker.enabled);
        assert_eq!("warn", config.log.level);
    }
}
