//! What steers a worker from outside: cancelling, limits, pauses, schedules, and what its jobs cause.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use vidcore::clock::Clock as _;
use vidcore::id::{JobGroupId, UserId};
use vidcore::jobs::cron::{CronEntry, Schedule};
use vidcore::jobs::worker::{Handlers, JobContext, JobFailure, JobHandler, WorkerOptions};
use vidcore::jobs::{JOB_CANCELS, JobFilter, JobState, JobStore as _, NewJob, NewJobGroup, QueueName};
use vidcore::notify::{Notice, Notify as _};
use vidcore::store::Causes;

use crate::site::{FAR, OPTIONS, QUEUE, Site, bounded, gate, script};

/// Its job causes two others and one that follows both.
#[derive(Debug)]
struct FansOut {
    group: JobGroupId,
    members: [NewJob; 2],
    next: NewJob,
}

#[async_trait]
impl JobHandler for FansOut {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        let group = NewJobGroup { id: self.group, next: self.next.clone() };
        let member = |job: &NewJob| NewJob { group: Some(self.group), ..job.clone() };
        Ok(self.members.iter().fold(Causes::none().group(group), |causes, job| causes.job(member(job))))
    }
}

#[tokio::test]
async fn news_of_a_cancellation_is_acted_on_before_the_next_heartbeat() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, WorkerOptions { heartbeat: FAR, ..OPTIONS });
    let id = site.enqueue(site.new_job("work")).await;
    let begun = keeper.next().await;
    site.test.store.cancel(id, None, Causes::none()).await.expect("it is live");
    assert!(!begun.cancel.is_cancelled(), "time stands still, and there was no news");
    site.notify.publish(Notice { topic: JOB_CANCELS.to_owned(), key: id.to_string() });
    site.until(id, JobState::Cancelled).await;
    assert!(begun.cancel.is_cancelled());
    worker.stop().await;
}

#[tokio::test]
async fn news_of_a_cancellation_that_the_store_knows_nothing_of_changes_nothing() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, WorkerOptions { heartbeat: FAR, ..OPTIONS });
    let id = site.enqueue(site.new_job("work")).await;
    let begun = keeper.next().await;
    let before = site.job(id).await.updated_at;
    site.clock().advance(Duration::from_millis(5));
    site.notify.publish(Notice { topic: JOB_CANCELS.to_owned(), key: id.to_string() });
    bounded(async { while site.job(id).await.updated_at == before {} }).await;
    assert!(!begun.cancel.is_cancelled(), "it asked the store, and the store said go on");
    keeper.let_go(1);
    site.until(id, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test]
async fn an_owner_at_the_limit_goes_on_when_a_job_ends_without_a_sweep_or_a_hint() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let per_owner = NonZeroU32::new(1);
    let worker = site.worker(handler, WorkerOptions { concurrency: 4, per_owner, ..OPTIONS });
    let owner = Some(UserId::new(site.clock().now(), &*site.test.entropy));
    let first = site.enqueue(NewJob { owner, ..site.new_job("work") }).await;
    let second = site.enqueue(NewJob { owner, ..site.new_job("work") }).await;
    let other = site.enqueue(site.new_job("work")).await;
    let began = [keeper.next().await.lease.job.id, keeper.next().await.lease.job.id];
    assert!(began.contains(&first) && began.contains(&other), "{began:?}");
    keeper.let_go(2);
    assert_eq!(second, keeper.next().await.lease.job.id);
    keeper.let_go(1);
    site.until(second, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_paused_queue_goes_on_when_it_is_told_to() {
    let site = Site::new().await;
    let (handler, mut began) = script(&site, [Ok(())]);
    let queue = QueueName::new(QUEUE);
    site.test.store.set_paused(&queue, true, Causes::none()).await.expect("the store answers");
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    site.wake_worker().await;
    assert!(began.try_recv().is_err(), "nothing of a paused queue is claimed");
    site.test.store.set_paused(&queue, false, Causes::none()).await.expect("the store answers");
    site.wake_worker().await;
    site.until(id, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_a_job_causes_is_written_with_its_end_and_followed_by_what_follows() {
    let site = Site::new().await;
    let group = JobGroupId::new(site.clock().now(), &*site.test.entropy);
    let (members, next) = ([site.new_job("member"), site.new_job("member")], site.new_job("next"));
    let next_id = next.id;
    let (member, mut keeper) = gate(true);
    let (last, _began) = script(&site, [Ok(())]);
    let handlers = Handlers::new()
        .with(QUEUE, "work", Arc::new(FansOut { group, members, next }))
        .with(QUEUE, "member", Arc::new(member))
        .with(QUEUE, "next", Arc::new(last));
    let worker = site.worker_of(handlers, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    // Both members run at once; only the end of the second one is followed.
    let first = keeper.next().await.lease.job.id;
    let second = keeper.next().await.lease.job.id;
    assert_eq!(JobState::Done, site.job(id).await.state, "they are there because it has ended");
    keeper.let_go(1);
    bounded(async {
        while [site.job(first).await, site.job(second).await].iter().all(|job| job.state != JobState::Done) {}
    })
    .await;
    assert!(site.test.store.job(next_id).await.expect("the store answers").is_none());
    keeper.let_go(1);
    bounded(async { while site.test.store.job(next_id).await.expect("the store answers").is_none() {} }).await;
    site.until(next_id, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test]
async fn two_workers_with_one_schedule_write_one_job_for_each_moment() {
    let site = Site::new().await;
    let every = Duration::from_secs(60);
    let entry = || CronEntry { kind: "work".to_owned(), ..CronEntry::new("tidy", QUEUE, Schedule::every(every)) };
    let handlers = |script| Handlers::new().with(QUEUE, "work", Arc::new(script)).cron(entry());
    let (first, mut began_first) = script(&site, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(())]);
    let (second, mut began_second) = script(&site, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(())]);
    let workers = [site.worker_of(handlers(first), OPTIONS), site.worker_of(handlers(second), OPTIONS)];
    let begun = site.clock().now();
    let mut moments = Vec::new();
    while moments.len() < 4 {
        let at = site
            .while_time_passes(async {
                tokio::select! {
                    at = began_first.recv() => at,
                    at = began_second.recv() => at,
                }
            })
            .await;
        moments.push(at.expect("a worker begins it").as_millis() / 60_000);
    }
    let distinct: std::collections::BTreeSet<_> = moments.iter().collect();
    assert_eq!(4, distinct.len(), "{moments:?} since {begun}");
    let jobs = site.test.store.jobs(&JobFilter::default(), None, 100).await.expect("the store answers");
    let passed = site.clock().now().as_millis() / 60_000 - begun.as_millis() / 60_000;
    assert!(jobs.len() as i64 <= passed, "{} jobs in {passed} minutes", jobs.len());
    for worker in workers {
        worker.stop().await;
    }
}
