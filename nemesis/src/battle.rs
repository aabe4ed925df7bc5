//! One folder of a campaign: the processes on it, the load, and the judge.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::Failure;
use crate::client::{Caller, Load, User};
use crate::effects::Effects;
use crate::findings::Findings;
use crate::history::History;
use crate::ledger::Ledger;
use crate::oracle::{Counts, Oracle};
use crate::pairing::Pairing;
use crate::plan::Deck;
use crate::report::Figures;
use crate::site::{Programs, Setting, Site};

/// Attempts of a job that kills never use up.
const MANY_ATTEMPTS: u16 = 200;

/// Attempts of a job that kills do use up now and then: what follows its death is put to the test.
const FEW_ATTEMPTS: u16 = 2;

/// Users of one folder.
const USERS: usize = 3;

/// What is put to the test.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Who shares the folder.
    pub pairing: Pairing,
    /// What the folder is called after the pairing's name.
    pub name: &'static str,
    /// `simulated` or `ffmpeg`.
    pub transcoder: &'static str,
    /// Whether the programs embed the platform, with jobs that have effects outside of it.
    pub embedding: bool,
}

/// One folder with everything about it.
#[derive(Debug)]
pub struct Battle {
    terms: Terms,
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
    pub(crate) history: Arc<History>,
    effects: Option<Effects>,
    pub(crate) deck: Deck,
    /// Whether those who take an empty place are armed.
    pub(crate) arming: bool,
}

impl Battle {
    /// Prepares the folder `root`, starts everybody and signs users up.
    ///
    /// # Errors
    /// The folder cannot be used, or a program is missing or does not start.
    pub async fn begin(root: PathBuf, terms: Terms, seed: u64) -> Result<Self, Failure> {
        let programs = if terms.embedding { Programs::embedding()? } else { Programs::real()? };
        let effects = if terms.embedding { Some(Effects::open().await?) } else { None };
        let ledger = effects.as_ref().map(|effects| effects.address);
        let attempts = if terms.embedding { FEW_ATTEMPTS } else { MANY_ATTEMPTS };
        let setting = Setting { transcoder: terms.transcoder, attempts, ledger };
        let mut site = Site::new(root.clone(), terms.pairing, programs, setting)?;
        site.start_missing().await?;
        let (findings, ledger) = (Findings::new(), Arc::new(Ledger::new()));
        let history = Arc::new(History::begin(&root.join("history.jsonl"))?);
        // Each folder has its own sequence, so that a pairing can be tried again alone.
        let names = terms.pairing.name.bytes().chain(terms.name.bytes());
        let salt = names.fold(0_u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
        let mut rng = Rng::with_seed(seed ^ salt);
        let mut users = Vec::new();
        for number in 0..USERS {
            let caller = Caller::new(site.address(), Arc::clone(&history), number)?;
            let of_user = rng.fork();
            let mut user = User::sign_up(caller, number, of_user, findings.clone(), Arc::clone(&ledger)).await?;
            (user.enqueues, user.gives_up) = (terms.embedding, terms.embedding);
            user.encodes = terms.transcoder == "ffmpeg";
            users.push(user);
        }
        let oracle = Oracle::new(site.data(), findings.clone(), Arc::clone(&ledger))?;
        Ok(Self {
            terms,
            site,
            oracle,
            users,
            findings,
            rng,
            figures: Figures::default(),
            ledger,
            history,
            effects,
            deck: Deck::default(),
            arming: true,
        })
    }

    /// One round: kills under load, everybody back, nothing left to do, checks. Returns a line about it.
    ///
    /// # Errors
    /// Somebody does not come back, or something cannot be read.
    pub async fn round(&mut self, kills: u32) -> Result<String, Failure> {
        let begun = Instant::now();
        self.arming = true;
        let until = self.figures.score.kills() + kills;
        // What is asked for has to be encoded before the round is over.
        let pause = Duration::from_millis(if self.site.puts() { 400 } else { 35 });
        let load = Load::start(std::mem::take(&mut self.users), pause);
        while self.figures.score.kills() < until {
            self.let_work().await?;
            self.strike().await?;
        }
        self.wind_down().await?;
        self.users = load.finish().await?;
        self.oracle.quiesce().await?;
        self.oracle.judge(&mut self.users).await?;
        self.figures.rounds += 1;
        let Terms { pairing, name, .. } = self.terms;
        let (kills, violations) = (self.figures.score.kills(), self.findings.count());
        let (acknowledged, maybe) = (self.history.acknowledged(), self.history.maybe());
        let Counts { videos, jobs, .. } = self.oracle.rows()?.counts()?;
        Ok(format!(
            "{} {name} round {}: {kills} kills, {acknowledged} calls acknowledged, {maybe} unsure, {videos} videos, \
             {jobs} jobs, {violations} violations, {:.1} s",
            pairing.name,
            self.figures.rounds,
            begun.elapsed().as_secs_f64(),
        ))
    }

    /// The last checks, then everybody ends.
    ///
    /// # Errors
    /// Somebody does not come back, or something cannot be read.
    pub async fn end(&mut self) -> Result<(), Failure> {
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
        let told = self.site.examine().await?;
        self.findings.demand(told.is_ok(), || format!("`vidserver doctor --deep` beside everybody: {told:?}"));
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
        self.figures.collected = self.oracle.collected;
        Ok(())
    }
}
