//! A campaign: each pairing in turn, in folders of its own; the first that breaks a promise is the last.

use std::io::Write as _;
use std::path::PathBuf;

use crate::battle::{Battle, Terms};
use crate::options::Options;
use crate::pairing::Pairing;
use crate::report::{Figures, Table};
use crate::{Failure, frozen};

/// The stage whose programs embed the platform.
const EMBEDDING: &str = "embedding";

/// Runs what the options ask for and prints it; `false` if a promise was broken.
///
/// # Errors
/// The programs are missing or do not start, or a folder cannot be used.
pub async fn run(options: &Options) -> Result<bool, Failure> {
    if !cfg!(feature = "failpoints") {
        return Err("built without the feature `failpoints`".into());
    }
    let options = options.settled();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000_000));
    let folder = tempfile::Builder::new().prefix("nemesis-").tempdir_in(match &options.folder {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir(),
    })?;
    say(&format!("seed {seed}"));
    let mut table = Table::default();
    let mut sound = true;
    for pairing in options.pairings().into_iter().filter(|pairing| can_be_run(*pairing)) {
        let mut figures = Figures::default();
        for stage in stages(&options, pairing) {
            let root = folder.path().join(format!("{}-{}", pairing.name, stage.name));
            figures.add(&stage.run(root, seed, &options).await?);
        }
        sound &= figures.violations == 0;
        table.add(pairing.name, figures);
        if !sound {
            say(&format!("data and logs are kept in {}", folder.keep().display()));
            say(&format!("to try again: {}", replay(&options, pairing, seed)));
            break;
        }
    }
    say(&format!("\n{table}\n\nseed {seed}"));
    Ok(sound)
}

fn replay(options: &Options, pairing: Pairing, seed: u64) -> String {
    let Options { kills, kills_per_round, freezes, locks, ffmpeg_every, embedding_every, .. } = options;
    format!(
        "scripts/nemesis --seed {seed} --pairing {} --kills {kills} --kills-per-round {kills_per_round} \
         --freezes {freezes} --locks {locks} --ffmpeg-every {ffmpeg_every} --embedding-every {embedding_every}",
        pairing.name
    )
}

/// One folder of a pairing.
#[derive(Debug, Clone, Copy)]
struct Stage {
    pairing: Pairing,
    /// `simulated`, `ffmpeg` or `embedding`.
    name: &'static str,
    transcoder: &'static str,
    kills: u32,
    freezes: u32,
    locks: u32,
}

/// Most kills fall on the real programs, simulating: a round is short then. Others meet ffmpeg at
/// work, or a program that embeds the platform and has effects outside of it.
fn stages(options: &Options, pairing: Pairing) -> Vec<Stage> {
    let share = |every: u32| options.kills.checked_div(every).unwrap_or(0);
    let with_ffmpeg = match share(options.ffmpeg_every) {
        kills if kills == 0 || (on_path("ffmpeg") && on_path("ffprobe")) => kills,
        _ => {
            say("ffmpeg is not there: every kill falls on programs that simulate");
            0
        }
    };
    let embedding = share(options.embedding_every);
    let simulated = Stage {
        pairing,
        name: "simulated",
        transcoder: "simulated",
        kills: options.kills.saturating_sub(with_ffmpeg + embedding),
        freezes: options.freezes,
        // With one process alone, nobody is left to answer.
        locks: if pairing.works_inside() { 0 } else { options.locks },
    };
    let only_kills = |name, kills| Stage { name, kills, freezes: 0, locks: 0, ..simulated };
    let encoding = Stage { transcoder: "ffmpeg", ..only_kills("ffmpeg", with_ffmpeg) };
    let stages = [simulated, only_kills(EMBEDDING, embedding), encoding];
    stages.into_iter().filter(|stage| stage.kills + stage.freezes + stage.locks > 0).collect()
}

impl Stage {
    async fn run(self, root: PathBuf, seed: u64, options: &Options) -> Result<Figures, Failure> {
        let mut battle = Battle::begin(root, self.terms(), seed).await?;
        // What could not be carried out to its end was not shown to hold.
        if let Err(error) = self.fight(&mut battle, options).await {
            battle.findings.add(format!("{} {} broke off: {error}", self.pairing.name, self.name));
        }
        battle.figures.violations = battle.findings.count();
        Ok(battle.figures)
    }

    async fn fight(self, battle: &mut Battle, options: &Options) -> Result<(), Failure> {
        while battle.figures.score.kills() < self.kills && battle.findings.count() == 0 {
            let left = self.kills - battle.figures.score.kills();
            say(&battle.round(left.min(options.kills_per_round)).await?);
        }
        if battle.findings.count() == 0 {
            frozen::workers(battle, self.freezes).await?;
            frozen::lock_holders(battle, self.locks).await?;
        }
        battle.end().await
    }

    fn terms(self) -> Terms {
        let Self { pairing, name, transcoder, .. } = self;
        Terms { pairing, name, transcoder, embedding: name == EMBEDDING }
    }
}

fn can_be_run(pairing: Pairing) -> bool {
    let can = !pairing.redis || on_path("redis-server");
    if !can {
        say("redis-server is not there: its pairing is left out");
    }
    can
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A line on standard output.
pub(crate) fn say(line: &str) {
    // Nothing is left to tell if standard output is closed; the exit code still says how it went.
    let _ = writeln!(std::io::stdout(), "{line}");
}
