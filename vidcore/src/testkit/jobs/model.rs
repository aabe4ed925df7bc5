//! What a job store does, in memory and without any haste: the oracle of the model test.
//!
//! It says what the contract says and nothing of how; only where the contract leaves a tie open (owners
//! who come by the same claim) it follows the order in which jobs were written.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::id::{JobGroupId, JobId, UserId};
use crate::jobs::{AfterFailure, Claim, Death, FollowUp, JobState, NewJob, NewJobGroup, QueueName, Replay, Swept};
use crate::store::Fence;

/// A step of priority, in milliseconds of age.
const STEP_MS: i64 = 60_000;

/// A job as the model remembers it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelJob {
    /// As it was enqueued.
    pub new: NewJob,
    /// Where it is in its life.
    pub state: JobState,
    /// Not before this moment.
    pub run_at: Timestamp,
    /// How often it was claimed.
    pub attempts: u16,
    /// Why it is dead.
    pub death: Option<Death>,
    /// Somebody asked it to stop.
    pub cancel_requested: bool,
    due: bool,
    token: i64,
    lease_until: Timestamp,
    group: Option<JobGroupId>,
}

/// One owner in one queue.
#[derive(Debug, Clone)]
struct Owner {
    queue: QueueName,
    owner: Option<UserId>,
    turn: i64,
}

/// Why the model refuses a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The lease is not held.
    LeaseLost,
    /// The job's state does not allow it.
    WrongState,
}

/// All jobs there are.
#[derive(Debug, Clone, Default)]
pub struct JobModel {
    /// In the order in which they were written.
    pub jobs: Vec<ModelJob>,
    /// The last token minted.
    pub last_token: i64,
    owners: Vec<Owner>,
    paused: BTreeSet<QueueName>,
    groups: BTreeMap<JobGroupId, (usize, NewJob)>,
    schedules: BTreeMap<String, Timestamp>,
}

impl ModelJob {
    fn is_live(&self) -> bool {
        !self.state.is_final()
    }

    fn is_ready(&self) -> bool {
        self.state == JobState::Queued && self.due
    }

    fn rank(&self) -> i64 {
        self.run_at.as_millis() - i64::from(self.new.priority) * STEP_MS
    }
}

impl JobModel {
    /// The job with this id.
    ///
    /// # Panics
    /// If there is none.
    pub fn job(&self, id: JobId) -> &ModelJob {
        &self.jobs[self.index(id).expect("the job was enqueued")]
    }

    /// Writes a job, unless a live one has its unique key: then that one's id.
    pub fn enqueue(&mut self, new: NewJob, now: Timestamp) -> JobId {
        if let Some(live) = new.unique_key.as_ref().and_then(|key| self.live(key)) {
            return live;
        }
        let id = new.id;
        self.write(new, now);
        id
    }

    /// Claims as the contract says: per queue the next owner's best job, of several queues the best of these.
    pub fn lease(&mut self, claim: &Claim, now: Timestamp) -> Vec<Fence> {
        let queues: Vec<_> = claim.queues.iter().filter(|queue| !self.paused.contains(queue)).cloned().collect();
        for index in 0..self.jobs.len() {
            let job = &self.jobs[index];
            if queues.contains(&job.new.queue) && job.state == JobState::Queued && job.run_at <= now {
                self.set(index, |job| job.due = true);
            }
        }
        let mut claimed = Vec::new();
        while claimed.len() < usize::from(claim.limit) {
            let best = queues.iter().filter_map(|queue| self.candidate(queue, claim)).min_by_key(|&index| {
                let job = &self.jobs[index];
                (job.rank(), index)
            });
            let Some(index) = best else { break };
            self.last_token += 1;
            let token = self.last_token;
            self.set(index, |job| {
                job.state = JobState::Leased;
                job.attempts += 1;
                job.token = token;
                job.lease_until = now.plus(claim.lease_for);
            });
            let job = &self.jobs[index];
            let (queue, owner) = (job.new.queue.clone(), job.new.owner);
            claimed.push(Fence { job: job.new.id, token });
            self.owner(&queue, owner).turn = token;
        }
        claimed
    }

    /// Renews a lease; whether the job was asked to stop.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`].
    pub fn heartbeat(&mut self, fence: Fence, until: Timestamp, now: Timestamp) -> Result<bool, Refusal> {
        let index = self.held(fence, now)?;
        self.jobs[index].lease_until = until;
        Ok(self.jobs[index].cancel_requested)
    }

    /// Ends a job well, with what it causes.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`].
    pub fn complete(
        &mut self,
        fence: Fence,
        jobs: Vec<NewJob>,
        group: Option<NewJobGroup>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let index = self.held(fence, now)?;
        let ended = self.finish(index, JobState::Done, None, now);
        self.write_all(jobs.into_iter().chain(ended).collect(), group, now);
        Ok(())
    }

    /// Ends an attempt badly.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`].
    pub fn fail(&mut self, fence: Fence, after: AfterFailure, now: Timestamp) -> Result<JobState, Refusal> {
        let index = self.held(fence, now)?;
        let job = &self.jobs[index];
        let (state, death) = match after {
            _ if job.cancel_requested => (JobState::Cancelled, None),
            AfterFailure::RetryAt(run_at) if job.attempts < job.new.max_attempts => {
                self.requeue(index, run_at, now);
                return Ok(JobState::Queued);
            }
            AfterFailure::PostponeTo(run_at) => {
                self.requeue(index, run_at, now);
                self.jobs[index].attempts -= 1;
                return Ok(JobState::Queued);
            }
            AfterFailure::RetryAt(_) => (JobState::Dead, Some(Death::Exhausted)),
            AfterFailure::Dead => (JobState::Dead, Some(Death::Permanent)),
        };
        self.end(index, state, death, now);
        Ok(state)
    }

    /// Gives a job back.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`].
    pub fn release(&mut self, fence: Fence, now: Timestamp) -> Result<(), Refusal> {
        let index = self.held(fence, now)?;
        if self.jobs[index].cancel_requested {
            self.end(index, JobState::Cancelled, None, now);
        } else {
            let run_at = self.jobs[index].run_at;
            self.requeue(index, run_at, now);
            self.jobs[index].attempts -= 1;
        }
        Ok(())
    }

    /// Ends an attempt that was asked to stop.
    ///
    /// # Errors
    /// [`Refusal::LeaseLost`].
    pub fn settle_cancelled(&mut self, fence: Fence, now: Timestamp) -> Result<(), Refusal> {
        let index = self.held(fence, now)?;
        self.end(index, JobState::Cancelled, None, now);
        Ok(())
    }

    /// Asks a job to stop.
    ///
    /// # Errors
    /// [`Refusal::WrongState`].
    pub fn cancel(&mut self, id: JobId, now: Timestamp) -> Result<(), Refusal> {
        let index = self.index(id).expect("the job was enqueued");
        match self.jobs[index].state {
            JobState::Queued => self.end(index, JobState::Cancelled, None, now),
            JobState::Leased => self.jobs[index].cancel_requested = true,
            _ => return Err(Refusal::WrongState),
        }
        Ok(())
    }

    /// Queues a dead job again.
    ///
    /// # Errors
    /// [`Refusal::WrongState`].
    pub fn retry(&mut self, id: JobId, now: Timestamp) -> Result<(), Refusal> {
        let index = self.index(id).expect("the job was enqueued");
        let job = &self.jobs[index];
        if job.state != JobState::Dead || job.new.unique_key.as_ref().is_some_and(|key| self.live(key).is_some()) {
            return Err(Refusal::WrongState);
        }
        self.set(index, |job| {
            job.state = JobState::Queued;
            job.due = true;
            job.run_at = now;
            job.attempts = 0;
            job.death = None;
            job.cancel_requested = false;
        });
        Ok(())
    }

    /// Queues all dead jobs again. The order does not show: all of them are due now.
    pub fn replay(&mut self, dead: &[JobId], now: Timestamp) -> Replay {
        let mut replay = Replay::default();
        for id in dead {
            match self.retry(*id, now) {
                Ok(()) => replay.replayed += 1,
                Err(_) => replay.left_out += 1,
            }
        }
        replay
    }

    /// Frees jobs whose lease has run out, those that ran out first first.
    pub fn sweep(&mut self, now: Timestamp) -> Swept {
        let lost = |job: &ModelJob| job.state == JobState::Leased && job.lease_until <= now;
        let mut expired: Vec<_> = (0..self.jobs.len()).filter(|&index| lost(&self.jobs[index])).collect();
        expired.sort_by_key(|&index| (self.jobs[index].lease_until, index));
        let (mut swept, mut caused) = (Swept::default(), Vec::new());
        for index in expired {
            let job = &self.jobs[index];
            if job.cancel_requested {
                caused.extend(self.finish(index, JobState::Cancelled, None, now));
            } else if job.attempts >= job.new.max_attempts {
                caused.extend(self.finish(index, JobState::Dead, Some(Death::Lost), now));
                swept.dead += 1;
            } else {
                self.requeue(index, now, now);
                swept.rescued += 1;
            }
        }
        // One transaction: what follows is written after all of it.
        self.write_all(caused, None, now);
        swept
    }

    /// Pauses a queue or lets it go on.
    pub fn set_paused(&mut self, queue: &QueueName, paused: bool) {
        match paused {
            true => self.paused.insert(queue.clone()),
            false => self.paused.remove(queue),
        };
    }

    /// Writes the job of a moment, once.
    pub fn fire(&mut self, name: &str, slot: Timestamp, job: NewJob, now: Timestamp) -> bool {
        match self.schedules.insert(name.to_owned(), slot) {
            Some(last) if last >= slot => {
                self.schedules.insert(name.to_owned(), last);
                false
            }
            None => false,
            Some(_) => {
                let id = job.id;
                self.enqueue(job, now) == id
            }
        }
    }

    fn index(&self, id: JobId) -> Option<usize> {
        self.jobs.iter().position(|job| job.new.id == id)
    }

    fn live(&self, key: &str) -> Option<JobId> {
        let twin = |job: &&ModelJob| job.is_live() && job.new.unique_key.as_deref() == Some(key);
        self.jobs.iter().find(twin).map(|job| job.new.id)
    }

    fn held(&self, fence: Fence, now: Timestamp) -> Result<usize, Refusal> {
        let index = self.index(fence.job).expect("the job was enqueued");
        let job = &self.jobs[index];
        let held = job.state == JobState::Leased && job.token == fence.token && job.lease_until > now;
        if held { Ok(index) } else { Err(Refusal::LeaseLost) }
    }

    fn running(&self, owner: &Owner) -> usize {
        let runs = |job: &&ModelJob| job.state == JobState::Leased;
        self.of(owner).filter(runs).count()
    }

    fn of(&self, owner: &Owner) -> impl Iterator<Item = &ModelJob> {
        let (queue, user) = (owner.queue.clone(), owner.owner);
        self.jobs.iter().filter(move |job| job.new.queue == queue && job.new.owner == user)
    }

    fn candidate(&self, queue: &QueueName, claim: &Claim) -> Option<usize> {
        let most = claim.per_owner.map_or(usize::MAX, |most| most.get() as usize);
        let next = self
            .owners
            .iter()
            .enumerate()
            .filter(|(_, owner)| owner.queue == *queue && self.of(owner).any(ModelJob::is_ready))
            .map(|(came, owner)| (self.running(owner), owner.turn, came))
            .filter(|(running, ..)| *running < most)
            .min()?;
        let owner = &self.owners[next.2];
        let mine = |job: &ModelJob| job.new.queue == *queue && job.new.owner == owner.owner && job.is_ready();
        (0..self.jobs.len())
            .filter(|&index| mine(&self.jobs[index]))
            .min_by_key(|&index| (self.jobs[index].rank(), index))
    }

    fn owner(&mut self, queue: &QueueName, owner: Option<UserId>) -> &mut Owner {
        let found = self.owners.iter().position(|it| it.queue == *queue && it.owner == owner);
        let index = found.unwrap_or_else(|| {
            self.owners.push(Owner { queue: queue.clone(), owner, turn: self.last_token });
            self.owners.len() - 1
        });
        &mut self.owners[index]
    }

    /// Changes a job; an owner who begins to wait by it does so behind those who wait already.
    fn set(&mut self, index: usize, change: impl FnOnce(&mut ModelJob)) {
        let (queue, owner) = (self.jobs[index].new.queue.clone(), self.jobs[index].new.owner);
        let waits = |model: &Self| {
            let mine = |job: &&ModelJob| job.new.queue == queue && job.new.owner == owner;
            model.jobs.iter().filter(mine).any(ModelJob::is_ready)
        };
        let waited = waits(self);
        change(&mut self.jobs[index]);
        if !waited && waits(self) {
            let last = self.last_token;
            let row = self.owner(&queue, owner);
            row.turn = row.turn.max(last);
        }
    }

    fn write(&mut self, new: NewJob, now: Timestamp) {
        let due = new.run_at <= now;
        let job = ModelJob {
            state: JobState::Queued,
            run_at: new.run_at,
            attempts: 0,
            death: None,
            cancel_requested: false,
            due: false,
            token: 0,
            lease_until: Timestamp::default(),
            group: new.group,
            new,
        };
        self.jobs.push(job);
        let index = self.jobs.len() - 1;
        self.set(index, |job| job.due = due);
    }

    fn write_all(&mut self, jobs: Vec<NewJob>, group: Option<NewJobGroup>, now: Timestamp) {
        if let Some(group) = &group {
            self.groups.insert(group.id, (0, group.next.clone()));
        }
        for job in jobs {
            let (id, group) = (job.id, job.group);
            if self.enqueue(job, now) == id
                && let Some((remaining, _)) = group.and_then(|group| self.groups.get_mut(&group))
            {
                *remaining += 1;
            }
        }
        if let Some(next) = group.and_then(|group| self.take_finished(group.id)) {
            self.enqueue(next, now);
        }
    }

    fn take_finished(&mut self, group: JobGroupId) -> Option<NewJob> {
        let finished = self.groups.get(&group).is_some_and(|(remaining, _)| *remaining == 0);
        finished.then(|| self.groups.remove(&group).map(|(_, next)| next))?
    }

    fn requeue(&mut self, index: usize, run_at: Timestamp, now: Timestamp) {
        self.set(index, |job| {
            job.state = JobState::Queued;
            job.run_at = run_at;
            job.due = run_at <= now;
        });
    }

    fn end(&mut self, index: usize, state: JobState, death: Option<Death>, now: Timestamp) {
        let caused = self.finish(index, state, death, now);
        self.write_all(caused, None, now);
    }

    /// Ends a job; returns what its transaction writes in consequence.
    fn finish(&mut self, index: usize, state: JobState, death: Option<Death>, now: Timestamp) -> Vec<NewJob> {
        self.set(index, |job| {
            job.state = state;
            job.death = death;
        });
        let mut caused = Vec::new();
        if let Some(group) = self.jobs[index].group.take() {
            if let Some((remaining, _)) = self.groups.get_mut(&group) {
                *remaining -= 1;
            }
            caused.extend(self.take_finished(group));
        }
        if let (Some(follow_up), true) = (self.jobs[index].new.on_dead.clone(), state != JobState::Done) {
            caused.push(self.follow_up(index, follow_up, now));
        }
        caused
    }

    fn follow_up(&self, index: usize, follow_up: FollowUp, now: Timestamp) -> NewJob {
        let of = &self.jobs[index].new;
        let mut number = u128::from_be_bytes(*follow_up.id.as_bytes());
        while self.index(JobId::from_bytes(number.to_be_bytes())).is_some() {
            number = number.wrapping_add(1);
        }
        NewJob {
            max_attempts: follow_up.max_attempts,
            owner: of.owner,
            video: of.video,
            ..NewJob::new(
                JobId::from_bytes(number.to_be_bytes()),
                follow_up.queue.as_ref().unwrap_or(&of.queue).as_str(),
                &follow_up.kind,
                follow_up.payload,
                now,
            )
        }
    }
}
