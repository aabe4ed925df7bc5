//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::pairing::{PAIRINGS, Pairing};

/// Kills, stops and freezes vidserver and vidworker under load, and checks that nothing is lost.
#[derive(Debug, Clone, Parser)]
#[command(name = "nemesis", version, about, long_about = None)]
pub struct Options {
    /// Only this pairing; all of them by default
    #[arg(long, value_name = "NAME", value_parser = pairing)]
    pub pairing: Option<Pairing>,
    /// What is drawn at random is drawn from this; a random one by default, which is printed
    #[arg(long)]
    pub seed: Option<u64>,
    /// Kills per pairing, at least
    #[arg(long, default_value_t = 40, value_name = "COUNT")]
    pub kills: u32,
    /// Kills per round: the invariants are checked after each
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    pub kills_per_round: u32,
    /// Workers frozen past their lease with something to publish, per pairing
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    pub freezes: u32,
    /// Processes frozen while they hold the database's lock, per pairing with several processes
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    pub locks: u32,
    /// Of how many kills one falls on programs that encode with ffmpeg; 0 for none
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    pub ffmpeg_every: u32,
    /// Of how many kills one falls on a program that embeds the platform, whose jobs have effects
    /// outside of it; 0 for none
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    pub embedding_every: u32,
    /// 300 kills and 200 freezes per pairing
    #[arg(long)]
    pub long: bool,
    /// Where data folders and logs are made; a temporary folder by default. Kept if something is found
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

impl Options {
    /// The options with `--long` spelled out.
    #[must_use]
    pub fn settled(&self) -> Self {
        let mut settled = self.clone();
        if self.long {
            (settled.kills, settled.freezes, settled.locks) = (300, 200, 10);
        }
        settled
    }

    /// The pairings to try.
    pub fn pairings(&self) -> Vec<Pairing> {
        self.pairing.map_or_else(|| PAIRINGS.to_vec(), |pairing| vec![pairing])
    }
}

fn pairing(name: &str) -> Result<Pairing, String> {
    let names = || PAIRINGS.map(|pairing| pairing.name).join(", ");
    Pairing::named(name).ok_or_else(|| format!("expected one of {}", names()))
}
