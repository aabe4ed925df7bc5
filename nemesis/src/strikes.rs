//! What is done to the processes of a folder, and what becomes of them.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::battle::Battle;
use crate::plan::{Armament, AtPoint, Deed, MID_DRAIN, Role};
use crate::process::{was_killed, was_terminated};
use crate::site::{LEASE, Slot};
use crate::{BOUND, Failure, report};

/// Calls that are acknowledged between two strikes, on average; with ffmpeg it takes too long for that.
const CALLS_BETWEEN: u64 = 12;

/// The longest pause between two strikes.
const LONGEST_PAUSE: Duration = Duration::from_millis(1500);

/// How long the armed may still take to come by their points once a round has had its kills.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// How often it is looked at who has come by a point.
const LOOK: Duration = Duration::from_millis(10);

impl Battle {
    /// Lets the load get some way on before the next strike: a kill of what does nothing shows nothing.
    pub(crate) async fn let_work(&mut self) -> Result<(), Failure> {
        let (begun, pause) = (Instant::now(), Duration::from_millis(self.rng.u64(50..400)));
        let enough = self.history.acknowledged() + self.rng.u64(0..2 * CALLS_BETWEEN);
        loop {
            self.reap().await?;
            let worked = self.history.acknowledged() >= enough || begun.elapsed() > LONGEST_PAUSE;
            if worked && begun.elapsed() >= pause {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Does something to somebody.
    pub(crate) async fn strike(&mut self) -> Result<(), Failure> {
        let idle: Vec<_> = (0..self.site.slots.len()).filter(|&at| !self.site.slots[at].is_on_its_way()).collect();
        let Some(index) = self.rng.choice(idle) else { return Ok(()) };
        let drains_to_death = self.site.slots[index].armed.is_some_and(|armed| armed.point == MID_DRAIN);
        let deed = if drains_to_death { Deed::Terminate } else { Deed::draw(&mut self.rng, LEASE) };
        match deed {
            Deed::Kill => {
                // Now and then everybody at the same moment.
                let all = self.rng.u8(0..8) == 0;
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
        let status = process.kill()?;
        match status {
            _ if self.site.slots[index].role == Role::Redis => self.figures.score.other(report::REDIS_KILLED),
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
            0 if self.arming && role != Role::Server => {
                Some(Armament { point: MID_DRAIN, action: AtPoint::Die, passes: 0 })
            }
            _ if !self.arming || role == Role::Redis => None,
            0..7 => Some(self.deck.draw(&mut self.rng, role, puts, LEASE)),
            _ => None,
        };
        self.site.start(index, armed).await
    }

    /// Gives the armed a last chance to come by their points, and arms nobody any more; then everybody is
    /// there, unarmed.
    pub(crate) async fn wind_down(&mut self) -> Result<(), Failure> {
        self.arming = false;
        let begun = Instant::now();
        while begun.elapsed() < LAST_CHANCE && self.site.slots.iter().any(Slot::is_on_its_way) {
            self.reap().await?;
            tokio::time::sleep(LOOK).await;
        }
        for index in 0..self.site.slots.len() {
            if self.site.slots[index].armed.is_some_and(|armed| armed.point == MID_DRAIN) {
                self.signal(index, Signal::TERM);
                self.see_end(index).await?;
            }
        }
        self.heal().await
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
}
