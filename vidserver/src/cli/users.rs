//! `vidserver users`: list accounts and set roles, straight on the data folder: how the first
//! administrator is made.

use clap::Subcommand;
use vidcore::Platform;
use vidcore::auth::{AccountRef, Role};
use vidcore::page::PageLimit;

use super::{CommandError, say};
use crate::config::Config;

/// Accounts read at a time.
const PAGE: u16 = 100;

/// What to do with the accounts.
#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// List every account, oldest first: id, role, handle, e-mail address
    List,
    /// Give an account a role; its older access tokens die
    SetRole {
        /// The account's id or e-mail address
        account: AccountRef,
        /// `user`, `moderator` or `admin`
        role: Role,
    },
}

pub(super) async fn run(mut config: Config, command: UsersCommand) -> Result<(), CommandError> {
    // A visit, not a server: no worker, and no time spent on looking for ffmpeg.
    config.platform.worker.enabled = false;
    config.platform.media.transcoder = vidcore::platform::settings::TranscoderChoice::Simulated;
    crate::logging::init(&config.log)?;
    let platform = Platform::open(config.platform).await?;
    let outcome = match command {
        UsersCommand::List => list(&platform).await,
        UsersCommand::SetRole { account, role } => {
            let account = platform.auth().set_role(&account, role).await?;
            say(&format!("{} {} is {} now", account.id, account.handle, account.role))
        }
    };
    platform.shutdown().await;
    outcome
}

async fn list(platform: &Platform) -> Result<(), CommandError> {
    let limit = PageLimit::new(PAGE).unwrap_or_default();
    let mut after = None;
    loop {
        let page = platform.auth().accounts(after, limit).await?;
        for account in &page.accounts {
            say(&format!("{} {:<9} {:<30} {}", account.id, account.role.as_str(), account.handle, account.email))?;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}
