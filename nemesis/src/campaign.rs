//! A campaign: for each pairing rounds of kills under load, each followed by the checks, then workers
//! that are frozen, and at the end the whole history.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use crate::client::{Caller, Load, User};
use crate::effects::Effects;
use crate::findings::Findings;
use crate::history::History;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::oracle::Oracle;
use crate::pairing::Pairing;
use crate::plan::{Armament, AtPoint, Deed, MID_DRAIN, Role};
use crate::process::{was_killed, was_terminated};
use crate::report::{self, Figures, Table};
use crate::site::{LEASE, Programs, Setting, Site};
use crate::{BOUND, Failure, frozen};

/// Calls that are acknowledged between two strikes, on average; with ffmpeg it takes too long for that.
const CALLS_BETWEEN: u64 = 12;

/// The longest pause between two strikes.
const LONGEST_PAUSE: Duration = Duration::from_millis(1500);

/// Users of one folder.
const USERS: usize = 3;

/// One folder with everything about it.
#[derive(Debug)]
pub struct Campaign {
    /// The processes.
    pub site: Site,
    /// Who judges them.
    pub oracle: Oracle,
    /// The load; empty while it is at work.
    pub users: Vec<User>,
    /// What was found.
    pub findings: Findings,
    /// Where everything random comes from.
    pub rng: Rng,
    /// What was done so far.
    pub figures: Figures,
    ledger: Arc<Ledger>,
    history: Arc<History>,
    effects: Option<Effects>,
}

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
    for pairing in options.pairings() {
        let mut figures = Figures::default();
        for stage in stages(&options, pairing) {
            let root = folder.path().join(format!("{}-{}", pairing.name, stage.name));
            match stage.run(root, seed, &options).await {
                Ok(of_stage) => figures.add(&of_stage),
                Err(error) => {
                    say(&format!("VIOLATION: {} {}: {error}", pairing.name, stage.name));
                    figures.violations += 1;
                }
            }
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
    let stages = [simulated, only_kills("embedding", embedding), encoding];
    stages.into_iter().filter(|stage| stage.kills + stage.freezes + stage.locks > 0).collect()
}

impl Stage {
    async fn run(self, root: PathBuf, seed: u64, options: &Options) -> Result<Figures, Failure> {
        let mut campaign = Campaign::begin(root, self, seed).await?;
        while campaign.figures.score.kills() < self.kills && campaign.findings.count() == 0 {
            let left = self.kills - campaign.figures.score.kills();
            campaign.round(left.min(options.kills_per_round), self).await?;
        }
        if campaign.findings.count() == 0 {
            frozen::workers(&mut campaign, self.freezes).await?;
            frozen::lock_holders(&mut campaign, self.locks).await?;
        }
        campaign.end().await
    }
}

impl Campaign {
    async fn begin(root: PathBuf, stage: Stage, seed: u64) -> Result<Self, Failure> {
        let embedding = stage.name == "embedding";
        let programs = if embedding { Programs::embedding()? } else { Programs::real()? };
        let effects = if embedding { Some(Effects::open().await?) } else { None };
        let ledger = effects.as_ref().map(|effects| effects.address);
        let setting = Setting { transcoder: stage.transcoder, ledger };
        let mut site = Site::new(root.clone(), stage.pairing, programs, setting)?;
        site.start_missing().await?;
        let (findings, ledger) = (Findings::new(), Arc::new(Ledger::new()));
        let history = Arc::new(History::begin(&root.join("history.jsonl"))?);
        // Each folder has its own sequence, so that a pairing can be tried again alone.
        let names = stage.pairing.name.bytes().chain(stage.name.bytes());
        let salt = names.fold(0_u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
        let mut rng = Rng::with_seed(seed ^ salt);
        let mut users = Vec::new();
        for number in 0..USERS {
            let caller = Caller::new(site.address(), Arc::clone(&history), number)?;
            let of_user = rng.fork();
            let mut user = User::sign_up(caller, number, of_user, findings.clone(), Arc::clone(&ledger)).await?;
            user.enqueues = embedding;
            users.push(user);
        }
        let oracle = Oracle::new(site.data(), findings.clone(), Arc::clone(&ledger));
        Ok(Self { site, oracle, users, findings, rng, figures: Figures::default(), ledger, history, effects })
    }

    /// One round: kills under load, everybody back, nothing left to do, checks.
    async fn round(&mut self, kills: u32, stage: Stage) -> Result<(), Failure> {
        let begun = Instant::now();
        let until = self.figures.score.kills() + kills;
        // What is asked for has to be encoded before the round is over.
        let pause = Duration::from_millis(if self.site.puts() { 400 } else { 35 });
        let load = Load::start(std::mem::take(&mut self.users), pause);
        while self.figures.score.kills() < until {
            self.let_work().await?;
            self.strike().await?;
        }
        self.heal().await?;
        self.users = load.finish().await?;
        self.oracle.quiesce().await?;
        self.oracle.judge(&mut self.users).await?;
        self.figures.rounds += 1;
        let (score, counts) = (&self.figures.score, self.oracle.rows()?.counts()?);
        say(&format!(
            "{} {} round {}: {} kills, {} calls acknowledged, {} unsure, {} videos, {} jobs, {} violations, {:.1} s",
            stage.pairing.name,
            stage.name,
            self.figures.rounds,
            score.kills(),
            self.history.acknowledged(),
            self.history.maybe(),
            counts.videos,
            counts.jobs,
            self.findings.count(),
            begun.elapsed().as_secs_f64(),
        ));
        Ok(())
    }

    /// Lets the load get some way on before the next strike: a kill of what does nothing shows nothing.
    async fn let_work(&mut self) -> Result<(), Failure> {
        let (begun, pause) = (Instant::now(), Duration::from_millis(self.rng.u64(50..400)));
        let enough = self.history.acknowledged() + self.rng.u64(0..2 * CALLS_BETWEEN);
        loop {
            self.reap().await?;
            let worked = self.history.acknowledged() >= enough || begun.elapsed() > LONGEST_PAUSE;
            if worked && begun.elapsed() >= pause {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Does something to somebody.
    async fn strike(&mut self) -> Result<(), Failure> {
        let idle: Vec<_> = (0..self.site.slots.len()).filter(|&at| !self.site.slots[at].is_on_its_way()).collect();
        let Some(index) = self.rng.choice(idle) else { return Ok(()) };
        let drains_to_death = self.site.slots[index].armed.is_some_and(|armed| armed.point == MID_DRAIN);
        let deed = if drains_to_death { Deed::Terminate } else { Deed::draw(&mut self.rng, LEASE) };
        match deed {
            Deed::Kill => {
                // Now and then everybody at the same moment.
                let all = self.rng.u8(0..6) == 0;
                let victims = if all { (0..self.site.slots.len()).collect() } else { vec![index] };
                for &victim in &victims {
                    self.kill(victim, report::BY_SIGNAL)?;
                }
                for victim in victims {
                    self.replace(victim).await?;
                }
            }
            Deed::Stop(time) => {
                self.signal(index, Signal::STOP);
                tokio::time::sleep(time).await;
                self.signal(index, Signal::CONT);
                self.figures.score.other(report::STOPPED);
            }
            Deed::Terminate => {
                self.signal(index, Signal::TERM);
                self.see_end(index).await?;
                self.replace(index).await?;
            }
            Deed::KillDraining(after) => {
                self.signal(index, Signal::TERM);
                tokio::time::sleep(after).await;
                self.kill(index, report::MID_DRAIN)?;
                self.replace(index).await?;
            }
        }
        Ok(())
    }

    /// Buries those who met the point they were armed for, continues those who froze there, and finds
    /// those who ended for no reason.
    async fn reap(&mut self) -> Result<(), Failure> {
        for index in 0..self.site.slots.len() {
            let slot = &mut self.site.slots[index];
            let Some(process) = slot.process.as_mut() else { continue };
            if process.ended()?.is_some() {
                self.see_end(index).await?;
                self.replace(index).await?;
            } else if let Some(Armament { action: AtPoint::Freeze(time), .. }) = slot.armed
                && process.is_stopped()
            {
                tokio::time::sleep(time).await;
                self.signal(index, Signal::CONT);
                self.site.slots[index].armed = None;
                self.figures.score.other(report::FROZEN);
                if index == 0 {
                    self.site.find_server().await?;
                }
            }
        }
        Ok(())
    }

    /// Waits for the end of a process that ends by itself, and counts it.
    async fn see_end(&mut self, index: usize) -> Result<(), Failure> {
        let slot = &mut self.site.slots[index];
        let (name, armed) = (slot.name.clone(), slot.armed);
        let Some(process) = slot.process.as_mut() else { return Ok(()) };
        let begun = Instant::now();
        let status = loop {
            match process.end(Duration::from_millis(100)).await? {
                Some(status) => break Some(status),
                // It met a point at which it freezes.
                None if process.is_stopped() => process.signal(Signal::CONT),
                None if begun.elapsed() > BOUND => break None,
                None => {}
            }
        };
        let deadly = armed.filter(|armed| armed.action == AtPoint::Die).map(|armed| armed.point);
        match (status, deadly) {
            (Some(status), Some(point)) if was_killed(status) => self.figures.score.kill_at(point),
            (Some(status), _) if status.success() => self.figures.score.other(report::ENDED),
            // It had only just begun, and did not listen to signals yet.
            (Some(status), _) if was_terminated(status) && !process.is_up()? => {
                self.figures.score.other(report::ENDED);
            }
            (Some(status), _) => self.findings.add(format!("{name} ended with {status}, armed with {armed:?}")),
            (None, _) => self.findings.add(format!("{name} does not end after SIGTERM")),
        }
        self.site.bury(index)
    }

    fn kill(&mut self, index: usize, how: &'static str) -> Result<(), Failure> {
        let Some(process) = self.site.slots[index].process.as_mut() else { return Ok(()) };
        match process.kill()? {
            status if was_killed(status) => self.figures.score.kill(how),
            // It was faster.
            _ => self.figures.score.other(report::ENDED),
        }
        self.site.bury(index)
    }

    /// Puts another process at an empty place, most times an armed one.
    async fn replace(&mut self, index: usize) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(0..200))).await;
        let (role, puts) = (self.site.slots[index].role, self.site.puts());
        let armed = match self.rng.u8(0..8) {
            0 if role != Role::Server => Some(Armament { point: MID_DRAIN, action: AtPoint::Die, passes: 0 }),
            0..7 => Some(Armament::draw(&mut self.rng, role, puts, LEASE)),
            _ => None,
        };
        self.site.start(index, armed).await
    }

    /// Lets nobody be armed any more, and everybody be there.
    pub(crate) async fn heal(&mut self) -> Result<(), Failure> {
        for index in 0..self.site.slots.len() {
            let slot = &mut self.site.slots[index];
            let ended = match slot.process.as_mut() {
                Some(process) => process.ended()?.is_some(),
                None => true,
            };
            if ended {
                self.see_end(index).await?;
            } else if slot.armed.is_some() {
                self.kill(index, report::BY_SIGNAL)?;
            }
        }
        self.site.start_missing().await
    }

    pub(crate) fn signal(&self, index: usize, signal: Signal) {
        if let Some(process) = &self.site.slots[index].process {
            process.signal(signal);
        }
    }

    /// Replaces a process by one that is armed so.
    pub(crate) async fn rearm(&mut self, index: usize, armed: Armament) -> Result<(), Failure> {
        if let Some(process) = self.site.slots[index].process.as_mut() {
            process.kill()?;
        }
        self.site.bury(index)?;
        self.site.start(index, Some(armed)).await
    }

    /// Kills a process, whatever it is at, and starts another.
    pub(crate) async fn renew(&mut self, index: usize) -> Result<(), Failure> {
        self.kill(index, report::BY_SIGNAL)?;
        self.site.start(index, None).await
    }

    /// The last checks, then everybody ends.
    async fn end(mut self) -> Result<Figures, Failure> {
        self.heal().await?;
        self.oracle.quiesce().await?;
        for user in &mut self.users {
            user.repeat(usize::MAX).await?;
        }
        self.oracle.judge(&mut self.users).await?;
        self.oracle.judge_history(&self.history)?;
        if let Some(effects) = &self.effects {
            self.oracle.judge_effects(&self.history, &effects.all())?;
            self.figures.effects = effects.all().values().map(Vec::len).sum();
        }
        let well = self.site.stop().await?;
        self.findings.demand(well, || "a process that was asked to stop did not end well".to_owned());
        for panic in self.site.panics() {
            self.findings.add(format!("a log tells of a panic: {panic}"));
        }
        self.figures.counts = self.oracle.rows()?.counts()?;
        self.figures.tally = self.site.tally()?;
        self.figures.published = self.ledger.published();
        self.figures.acknowledged = self.history.acknowledged();
        self.figures.maybe = self.history.maybe();
        self.figures.orphans = self.oracle.orphans;
        self.figures.violations = self.findings.count();
        for finding in self.findings.all() {
            say(&format!("VIOLATION: {finding}"));
        }
        Ok(self.figures)
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: PathBuf| Path::new(&folder).join(program).is_file())
}

/// A line on standard output.
pub(crate) fn say(line: &str) {
    // Nothing is left to tell if standard output is closed; the exit code still says how it went.
    let _ = writeln!(std::io::stdout(), "{line}");
}
