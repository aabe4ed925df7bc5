//! Lists, counts and what a caller may know.

use std::time::Duration;

use crate::idempotency::{IdempotencyKey, IdempotencyRecord};
use crate::jobs::{Job, JobError, JobFilter, JobState, NewJob, QueueName};
use crate::page::Position;
use crate::store::{Causes, Outcome};
use crate::testkit::jobs::{JobHarness, QUEUE};

/// An enqueue sent twice under one idempotency key has one effect and one answer.
pub async fn the_same_request_twice_enqueues_one_job(h: &JobHarness) {
    let causes = || {
        let key = IdempotencyKey { scope: "tester".to_owned(), key: "1".to_owned(), fingerprint: [1; 32] };
        let expires_at = h.now().plus(Duration::from_secs(60));
        Causes::none().idempotent(Some(IdempotencyRecord { key, expires_at, sealed: None }))
    };
    let first = h.store.enqueue(h.new_job("transcode"), causes()).await.expect("it is enqueued");
    let second = h.store.enqueue(h.new_job("transcode"), causes()).await.expect("it is enqueued");
    assert!(matches!(first, Outcome::Done(_)) && matches!(second, Outcome::Replayed { .. }));
    assert_eq!(first.into_inner(), second.into_inner());
    assert_eq!(1, h.lease_up_to(10).await.len());
}

/// To who does not own it, a job is not there; to nobody in particular, it is.
pub async fn jobs_of_others_are_not_found(h: &JobHarness) {
    let (owner, stranger) = (h.user_id(), h.user_id());
    let job = h.enqueue(NewJob { owner: Some(owner), ..h.new_job("transcode") }).await;
    let unowned = h.enqueued("unowned").await;
    for (id, caller) in [(job.id, stranger), (unowned.id, owner)] {
        assert!(matches!(h.store.cancel(id, Some(caller), Causes::none()).await, Err(JobError::NotFound)));
        assert!(matches!(h.store.retry(id, Some(caller), Causes::none()).await, Err(JobError::NotFound)));
        assert_eq!(JobState::Queued, h.job(id).await.state);
    }
    assert!(h.store.cancel(job.id, Some(owner), Causes::none()).await.is_ok());
    assert!(h.store.cancel(unowned.id, None, Causes::none()).await.is_ok());
}

/// Every part of a filter narrows the list, and they narrow it together.
pub async fn a_list_holds_what_its_filter_names(h: &JobHarness) {
    let (owner, video) = (Some(h.user_id()), Some(h.video_id()));
    let both = h.enqueue(NewJob { owner, video, ..h.new_job("both") }).await.id;
    let owned = h.enqueue(NewJob { owner, ..h.new_job("owned") }).await.id;
    let about = h.enqueue(NewJob { video, ..h.new_job("about") }).await.id;
    h.store.cancel(owned, None, Causes::none()).await.expect("it is live");
    let queued = Some(JobState::Queued);
    let any = JobFilter::default();
    for (filter, mut expected) in [
        (any.clone(), vec![both, owned, about]),
        (JobFilter { owner, ..any.clone() }, vec![both, owned]),
        (JobFilter { video, ..any.clone() }, vec![both, about]),
        (JobFilter { state: queued, ..any.clone() }, vec![both, about]),
        (JobFilter { owner, state: queued, ..any.clone() }, vec![both]),
        (JobFilter { owner, video, state: Some(JobState::Dead), ..JobFilter::default() }, vec![]),
        (JobFilter { owner: Some(h.user_id()), ..any }, vec![]),
    ] {
        let listed = h.store.jobs(&filter, None, 10).await.expect("the store answers");
        let mut listed: Vec<_> = listed.iter().map(|job| job.id).collect();
        listed.sort();
        expected.sort();
        assert_eq!(expected, listed, "{filter:?}");
    }
}

/// Newest first, and page by page the whole list once, also where many jobs are of one millisecond.
pub async fn pages_neither_repeat_nor_skip(h: &JobHarness) {
    for number in 0..11 {
        h.enqueued(&number.to_string()).await;
        if number % 4 == 3 {
            h.clock.advance(Duration::from_millis(1));
        }
    }
    let filter = JobFilter::default();
    let all = h.store.jobs(&filter, None, 100).await.expect("the store answers");
    assert_eq!(11, all.len());
    assert!(all.windows(2).all(|pair| (pair[0].created_at, pair[0].id) > (pair[1].created_at, pair[1].id)));
    let mut paged: Vec<Job> = Vec::new();
    loop {
        let after = paged.last().map(|job| Position { sort: job.created_at.as_millis(), id: *job.id.as_bytes() });
        let page = h.store.jobs(&filter, after, 3).await.expect("the store answers");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(all, paged);
}

/// What a worker may sleep until: the earliest queued job of its queues, due or not.
pub async fn the_next_due_job_is_the_earliest_of_its_queues(h: &JobHarness) {
    let queues = [QueueName::new(QUEUE), QueueName::new("other")];
    let next = async || h.store.next_due(&queues, None).await.expect("the store answers");
    assert_eq!(None, next().await);
    let at = |seconds| h.now().plus(Duration::from_secs(seconds));
    h.enqueue(NewJob { queue: QueueName::new("elsewhere"), ..h.new_job("unseen") }).await;
    h.enqueue(NewJob { run_at: at(30), priority: 10, ..h.new_job("later") }).await;
    assert_eq!(Some(at(30)), next().await);
    h.enqueue(NewJob { queue: queues[1].clone(), run_at: at(20), ..h.new_job("sooner") }).await;
    assert_eq!(Some(at(20)), next().await);
    h.enqueued("now").await;
    assert_eq!(Some(h.now()), next().await);
    assert!(h.lease().await.is_some());
    assert_eq!(Some(at(20)), next().await);
}

/// The metric's numbers: live and dead jobs, by queue; what ended otherwise is history.
pub async fn jobs_are_counted_by_queue_and_state(h: &JobHarness) {
    let done = h.leased("done").await;
    h.store.complete(done.fence(), Causes::none()).await.expect("it is held");
    h.leased("leased").await;
    h.enqueued("queued").await;
    h.enqueue(NewJob { queue: QueueName::new("other"), ..h.new_job("queued") }).await;
    h.enqueue(NewJob { queue: QueueName::new("other"), ..h.new_job("queued") }).await;
    let mut counts = h.store.job_counts().await.expect("the store answers");
    counts.sort_by_key(|(queue, state, _)| (queue.clone(), state.as_str()));
    let (test, other) = (QueueName::new(QUEUE), QueueName::new("other"));
    let expected = [(other, JobState::Queued, 2), (test.clone(), JobState::Leased, 1), (test, JobState::Queued, 1)];
    assert_eq!(expected, *counts);
}
