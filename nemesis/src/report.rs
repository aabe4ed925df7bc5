//! What a campaign comes to: a line for each round, a table at the end.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use crate::logs::Tally;
use crate::oracle::Counts;

/// How processes were treated, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    kills: BTreeMap<&'static str, u32>,
    points: BTreeMap<&'static str, u32>,
    others: BTreeMap<&'static str, u32>,
}

/// Killed at a random moment.
pub const BY_SIGNAL: &str = "SIGKILL at random";
/// Killed at a named point; which, stands below it.
pub const AT_POINT: &str = "at a named point";
/// Killed while it drained.
pub const MID_DRAIN: &str = "SIGTERM, then SIGKILL";
/// Stopped and continued at a random moment.
pub const STOPPED: &str = "SIGSTOP and SIGCONT";
/// Stopped at a named point and continued.
pub const FROZEN: &str = "frozen at a named point";
/// Killed with every hint in it.
pub const REDIS_KILLED: &str = "Redis killed, came back empty";
/// Asked to stop, and ended well.
pub const ENDED: &str = "SIGTERM, ended well";

impl Score {
    /// Counts a process that was killed.
    pub fn kill(&mut self, how: &'static str) {
        *self.kills.entry(how).or_default() += 1;
    }

    /// Counts a process that was killed at a named point.
    pub fn kill_at(&mut self, point: &'static str) {
        self.kill(AT_POINT);
        *self.points.entry(point).or_default() += 1;
    }

    /// Counts what a process lived through.
    pub fn other(&mut self, how: &'static str) {
        *self.others.entry(how).or_default() += 1;
    }

    /// How many were killed.
    pub fn kills(&self) -> u32 {
        self.kills.values().sum()
    }

    fn add(&mut self, more: &Self) {
        let add = |sums: &mut BTreeMap<&'static str, u32>, more: &BTreeMap<&'static str, u32>| {
            for (name, count) in more {
                *sums.entry(name).or_default() += count;
            }
        };
        add(&mut self.kills, &more.kills);
        add(&mut self.points, &more.points);
        add(&mut self.others, &more.others);
    }
}

/// The figures of one pairing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Kills and the like.
    pub score: Score,
    /// Rounds after which everything was checked.
    pub rounds: u32,
    /// Calls that were acknowledged.
    pub acknowledged: u64,
    /// Calls that may or may not have happened.
    pub maybe: u64,
    /// Rows at the end.
    pub counts: Counts,
    /// Renditions that were published.
    pub published: usize,
    /// Effects that jobs had outside the platform.
    pub effects: usize,
    /// What the logs tell.
    pub tally: Tally,
    /// Workers frozen with something to publish, each of them fenced afterwards.
    pub frozen_workers: u32,
    /// Processes frozen while they held the database's lock.
    pub frozen_holders: u32,
    /// Objects, whole or not, that belonged to nobody and were collected.
    pub collected: usize,
    /// Broken promises.
    pub violations: usize,
}

impl Figures {
    /// Adds the figures of another folder.
    pub fn add(&mut self, more: &Self) {
        self.score.add(&more.score);
        self.rounds += more.rounds;
        self.acknowledged += more.acknowledged;
        self.maybe += more.maybe;
        self.counts.jobs += more.counts.jobs;
        self.counts.dead += more.counts.dead;
        self.counts.attempts += more.counts.attempts;
        self.counts.videos += more.counts.videos;
        self.published += more.published;
        self.effects += more.effects;
        self.tally.fenced += more.tally.fenced;
        self.tally.rescued += more.tally.rescued;
        self.frozen_workers += more.frozen_workers;
        self.frozen_holders += more.frozen_holders;
        self.collected += more.collected;
        self.violations += more.violations;
    }

    fn rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![("kills".to_owned(), self.score.kills().to_string())];
        let part = |(how, count): (&&str, &u32)| (format!("  {how}"), count.to_string());
        rows.extend(self.score.kills.iter().map(part));
        rows.extend(self.score.points.iter().map(|(point, count)| (format!("    {point}"), count.to_string())));
        rows.extend(self.score.others.iter().map(|(how, count)| ((*how).to_owned(), count.to_string())));
        let named = [
            ("frozen past the lease, then fenced", u64::from(self.frozen_workers)),
            ("frozen holding the lock", u64::from(self.frozen_holders)),
            ("rounds", u64::from(self.rounds)),
            ("calls acknowledged", self.acknowledged),
            ("calls without an answer", self.maybe),
            ("videos", self.counts.videos),
            ("jobs", self.counts.jobs),
            ("  of which died", self.counts.dead),
            ("attempts", self.counts.attempts),
            ("renditions published", self.published as u64),
            ("effects outside", self.effects as u64),
            ("jobs rescued", self.tally.rescued),
            ("late writes fenced", self.tally.fenced),
            ("objects collected", self.collected as u64),
            ("violations", self.violations as u64),
        ];
        rows.extend(named.map(|(name, value)| (name.to_owned(), value.to_string())));
        rows
    }
}

/// The figures of every pairing, beside each other.
#[derive(Debug, Clone, Default)]
pub struct Table(Vec<(&'static str, Figures)>);

impl Table {
    /// Adds a column.
    pub fn add(&mut self, pairing: &'static str, figures: Figures) {
        self.0.push((pairing, figures));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not every pairing has met everything: a name is shown for all, a figure where there is one.
        let mut names: Vec<String> = Vec::new();
        let columns: Vec<BTreeMap<String, String>> =
            self.0.iter().map(|(_, figures)| figures.rows().into_iter().collect()).collect();
        for (_, figures) in &self.0 {
            let mut at = 0;
            for (name, _) in figures.rows() {
                at = match names.iter().position(|known| *known == name) {
                    Some(found) => found + 1,
                    None => {
                        names.insert(at, name);
                        at + 1
                    }
                };
            }
        }
        let mut text = format!("| {:<36} |", "");
        for (pairing, _) in &self.0 {
            write!(text, " {pairing:>9} |")?;
        }
        write!(text, "\n|{}|", "-".repeat(38))?;
        text.push_str(&"-----------|".repeat(self.0.len()));
        for name in names {
            write!(text, "\n| {name:<36} |")?;
            for column in &columns {
                write!(text, " {:>9} |", column.get(&name).map_or("0", String::as_str))?;
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_pairing_and_a_line_for_each_figure() {
        let (mut table, mut figures) = (Table::default(), Figures::default());
        table.add("local", figures.clone());
        figures.score.kill(BY_SIGNAL);
        figures.score.kill(AT_POINT);
        table.add("sqlite", figures);
        let text = table.to_string();
        assert!(text.contains("| kills                                |         0 |         2 |"), "{text}");
        assert!(text.contains("|   SIGKILL at random                  |         0 |         1 |"), "{text}");
    }
}
