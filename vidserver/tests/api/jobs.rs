//! Background jobs as their owner and administrators see them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use vidcore::auth::Role;
use vidcore::entropy::SystemEntropy;
use vidcore::id::JobId;
use vidcore::jobs::{AfterFailure, Claim, NewJob, QueueName};
use vidcore::media::simulated::SimulatedTranscoder;

use crate::app::{CLIP, Call, TestApp, User, text};

/// A server whose first encoding fails for good.
async fn failing() -> TestApp {
    TestApp::builder()
        .settings(|settings| settings.worker.max_attempts = 1)
        .transcoder(|clock| SimulatedTranscoder::builder(clock).encode_time(Duration::ZERO).fail_first(1).build())
        .start()
        .await
}

async fn jobs(app: &TestApp, caller: &User, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/api/v1/jobs{query}")).by(caller).send().await.expect(200).json();
    page["items"].as_array().expect("items").clone()
}

/// The job of this kind once it is in this state.
async fn job(app: &TestApp, caller: &User, kind: &str, state: &str) -> Value {
    let wanted = |job: &&Value| job["kind"] == kind && job["state"] == state;
    let page = app
        .until(caller, "/api/v1/jobs", |page| page["items"].as_array().expect("items").iter().any(|job| wanted(&job)))
        .await;
    page["items"].as_array().expect("items").iter().find(wanted).expect("just seen").clone()
}

#[tokio::test]
async fn the_owner_sees_the_jobs_of_its_videos() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    app.ready(&ada, "A film", "private").await;
    let process = job(&app, &ada, "process_video", "done").await;
    insta::assert_json_snapshot!(crate::redaction::redacted(process.clone()));
    let path = format!("/api/v1/jobs/{}", text(&process["id"]));
    let answer = app.get(&path).by(&ada).send().await.expect(200);
    let mut read = answer.json();
    let history = read.as_object_mut().expect("an object").remove("history").expect("its history");
    assert_eq!(process, read);
    insta::assert_json_snapshot!("history_of_its_own", history);
    app.get(&path).by(&ada).header("if-none-match", answer.header("etag")).send().await.expect(304);
    app.finish().await;
}

#[tokio::test]
async fn the_jobs_of_others_are_invisible_but_to_administrators() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let (moderator, admin) = (app.user_as("mod", Role::Moderator).await, app.user_as("root", Role::Admin).await);
    app.ready(&ada, "A film", "public").await;
    let hers = job(&app, &ada, "process_video", "done").await;
    let path = format!("/api/v1/jobs/{}", text(&hers["id"]));
    let absent = app.get("/api/v1/jobs/job_00000000000000000000000000").by(&eve).send().await.expect(404).redacted();
    for other in [&eve, &moderator] {
        assert!(jobs(&app, other, "").await.is_empty());
        assert_eq!(absent, app.get(&path).by(other).send().await.expect(404).redacted());
        for verb in ["cancel", "retry"] {
            assert_eq!("not_found", app.post(&format!("{path}/{verb}")).by(other).send().await.problem(404));
        }
    }
    assert_eq!(jobs(&app, &ada, "").await, jobs(&app, &admin, "").await);
    app.get(&path).by(&admin).send().await.expect(200);
    app.finish().await;
}

#[tokio::test]
async fn jobs_are_filtered_by_state_and_video_and_paged() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let first = app.ready(&ada, "one", "private").await;
    app.clock.advance(Duration::from_millis(1));
    app.ready(&ada, "two", "private").await;
    job(&app, &ada, "process_video", "done").await;
    app.until(&ada, "/api/v1/jobs?state=done", |page| page["items"].as_array().map_or(0, Vec::len) == 8).await;
    let of_video = jobs(&app, &ada, &format!("?video_id={}", text(&first["id"]))).await;
    let kinds: BTreeSet<_> = of_video.iter().map(|job| text(&job["kind"])).collect();
    assert_eq!(BTreeSet::from(["verify_upload", "process_video", "make_rendition", "settle_video"]), kinds);
    assert!(jobs(&app, &ada, "?state=dead").await.is_empty());
    let page = app.get("/api/v1/jobs?state=done&limit=7").by(&ada).send().await.expect(200);
    let cursor = text(&page.json()["next_cursor"]).to_owned();
    assert_eq!(1, jobs(&app, &ada, &format!("?state=done&limit=7&cursor={cursor}")).await.len());
    assert!(page.header("link").starts_with("</api/v1/jobs?state=done&limit=7&cursor="));
    let other = app.get(&format!("/api/v1/jobs?cursor={cursor}")).by(&ada).send().await;
    assert_eq!("bad_cursor", other.problem(400));
    for bad in ["?state=running", "?video_id=x", "?limit=0", "?limit=101", "?x=1", "?state="] {
        assert_eq!("invalid_query", app.get(&format!("/api/v1/jobs{bad}")).by(&ada).send().await.problem(400), "{bad}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_job_that_ended_well_is_neither_cancelled_nor_retried() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    app.ready(&ada, "A film", "private").await;
    let done = job(&app, &ada, "process_video", "done").await;
    let call = |verb: &str| app.post(&format!("/api/v1/jobs/{}/{verb}", text(&done["id"]))).by(&ada);
    insta::assert_json_snapshot!("cancel_done", call("cancel").send().await.expect(409).redacted());
    insta::assert_json_snapshot!("retry_done", call("retry").send().await.expect(409).redacted());
    app.finish().await;
}

#[tokio::test]
async fn a_dead_job_is_retried() {
    let app = failing().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    app.bring(&ada, text(&draft["id"]), CLIP).await;
    let dead = job(&app, &ada, "make_rendition", "dead").await;
    insta::assert_json_snapshot!(crate::redaction::redacted(dead.clone()));
    let video = format!("/api/v1/videos/{}", text(&draft["id"]));
    app.until(&ada, &video, |video| video["status"] == "failed").await;
    let retry = || app.post(&format!("/api/v1/jobs/{}/retry", text(&dead["id"]))).by(&ada).key("r");
    let first = retry().send().await.expect(202);
    assert_eq!(first.body, retry().send().await.expect(202).body);
    app.until(&ada, &video, |video| video["status"] == "ready").await;
    app.finish().await;
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once() {
    let app = TestApp::builder().settings(|settings| settings.worker.enabled = false).start().await;
    let ada = app.user("ada").await;
    let draft = app.draft(&ada, "A film", "private").await;
    app.bring(&ada, text(&draft["id"]), CLIP).await;
    let queued = job(&app, &ada, "verify_upload", "queued").await;
    let cancel = || app.post(&format!("/api/v1/jobs/{}/cancel", text(&queued["id"]))).by(&ada);
    let cancelled = cancel().key("c").send().await.expect(202);
    assert_eq!(json!("cancelled"), cancelled.json()["state"]);
    assert_eq!(cancelled.body, cancel().key("c").send().await.expect(202).body);
    assert_eq!("wrong_state", cancel().send().await.problem(409));
    app.finish().await;
}

/// A job of `owner`'s that is dead, in a queue no worker knows.
async fn dead(app: &TestApp, owner: &User, kind: &str) -> String {
    let (now, queue) = (app.platform.now(), QueueName::new("own"));
    let owner = Some(owner.id.parse().expect("an id"));
    let job = NewJob::new(JobId::new(now, &SystemEntropy), queue.as_str(), kind, Value::Null, now);
    let id = app.platform.jobs().enqueue(NewJob { owner, ..job }).await.expect("it is enqueued").id;
    let lease_for = Duration::from_secs(60);
    let claim = Claim { queues: vec![queue], limit: 1, lease_for, worker: "inside".to_owned(), per_owner: None };
    let lease = app.platform.store().lease(claim).await.expect("the store answers").pop().expect("it is due");
    let after = AfterFailure::RetryAt(now);
    app.platform.store().fail(lease.fence(), "inner words".to_owned(), after).await.expect("it is held");
    id.to_string()
}

fn replay<'a>(app: &'a TestApp, caller: &User, body: &Value) -> Call<'a> {
    app.post("/api/v1/jobs/replay").by(caller).json(body)
}

#[tokio::test]
async fn the_history_shows_inner_words_to_administrators_alone() {
    let app = TestApp::start().await;
    let (ada, admin) = (app.user("ada").await, app.user_as("root", Role::Admin).await);
    let path = format!("/api/v1/jobs/{}", dead(&app, &ada, "work").await);
    insta::assert_json_snapshot!("dead_to_its_owner", app.get(&path).by(&ada).send().await.expect(200).redacted());
    let shown = app.get(&path).by(&admin).send().await.expect(200).json();
    let attempt = &shown["history"][0];
    assert_eq!((&json!("inner words"), &json!("inside")), (&attempt["error"], &attempt["worker"]));
    assert_eq!("inner words", shown["last_error"]);
    assert!(attempt["token"].is_i64(), "{attempt}");
    app.finish().await;
}

#[tokio::test]
async fn jobs_are_filtered_by_queue_and_kind_and_cursors_keep_to_their_filter() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    for kind in ["send", "send", "sort"] {
        dead(&app, &ada, kind).await;
        app.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(3, jobs(&app, &ada, "?queue=own").await.len());
    assert_eq!(2, jobs(&app, &ada, "?queue=own&kind=send").await.len());
    assert!(jobs(&app, &ada, "?queue=send").await.is_empty());
    let page = app.get("/api/v1/jobs?queue=own&kind=send&limit=1").by(&ada).send().await.expect(200);
    let cursor = text(&page.json()["next_cursor"]).to_owned();
    assert_eq!(1, jobs(&app, &ada, &format!("?kind=send&queue=own&cursor={cursor}")).await.len());
    for other in ["", "?queue=own", "?kind=send", "?queue=own&kind=sort", "?queue=send&kind=own"] {
        let sign = if other.is_empty() { '?' } else { '&' };
        let refused = app.get(&format!("/api/v1/jobs{other}{sign}cursor={cursor}")).by(&ada).send().await;
        assert_eq!("bad_cursor", refused.problem(400), "{other}");
    }
    let longest = "q".repeat(64);
    assert!(jobs(&app, &ada, &format!("?queue={longest}&kind={longest}")).await.is_empty());
    for bad in
        [format!("?queue={longest}q"), format!("?kind={longest}q"), "?queue=".to_owned(), "?kind=Media".to_owned()]
    {
        assert_eq!("invalid_query", app.get(&format!("/api/v1/jobs{bad}")).by(&ada).send().await.problem(400), "{bad}");
    }
    app.finish().await;
}

#[tokio::test]
async fn dead_jobs_are_replayed_in_bulk_each_owners_own() {
    let app = TestApp::start().await;
    let (ada, eve) = (app.user("ada").await, app.user("eve").await);
    let (moderator, admin) = (app.user_as("mod", Role::Moderator).await, app.user_as("root", Role::Admin).await);
    for (owner, kind) in [(&ada, "send"), (&ada, "sort"), (&eve, "send")] {
        dead(&app, owner, kind).await;
    }
    let none = json!({"replayed": 0, "left_out": 0, "more": false});
    assert_eq!(none, replay(&app, &moderator, &json!({})).send().await.expect(200).json());
    let first = replay(&app, &ada, &json!({"kind": "sort"})).key("k").send().await.expect(200);
    assert_eq!(json!({"replayed": 1, "left_out": 0, "more": false}), first.json());
    assert_eq!(first.body, replay(&app, &ada, &json!({"kind": "sort"})).key("k").send().await.expect(200).body);
    assert_eq!("idempotency_key_reused", replay(&app, &ada, &json!({})).key("k").send().await.problem(422));
    assert_eq!(none, replay(&app, &ada, &json!({"queue": "other"})).send().await.expect(200).json());
    let nobodys = json!({"video_id": "video_00000000000000000000000000"});
    assert_eq!(none, replay(&app, &admin, &nobodys).send().await.expect(200).json());
    assert_eq!(2, jobs(&app, &admin, "?state=dead").await.len());
    assert_eq!(json!(2), replay(&app, &admin, &json!({"queue": "own"})).send().await.expect(200).json()["replayed"]);
    assert!(jobs(&app, &admin, "?state=dead").await.is_empty());
    app.finish().await;
}

#[tokio::test]
async fn a_replay_tells_what_a_live_job_holds_back() {
    let app = TestApp::start().await;
    let (ada, now) = (app.user("ada").await, app.platform.now());
    let (queue, owner) = (QueueName::new("own"), Some(ada.id.parse().expect("an id")));
    for _ in 0..2 {
        let job = NewJob::new(JobId::new(now, &SystemEntropy), queue.as_str(), "nightly", Value::Null, now);
        let job = NewJob { owner, unique_key: Some("nightly".to_owned()), ..job };
        app.platform.jobs().enqueue(job).await.expect("it is enqueued");
        let lease_for = Duration::from_secs(60);
        let queues = vec![queue.clone()];
        let claim = Claim { queues, limit: 1, lease_for, worker: "inside".to_owned(), per_owner: None };
        let lease = app.platform.store().lease(claim).await.expect("the store answers").pop().expect("it is due");
        app.platform.store().fail(lease.fence(), "no".to_owned(), AfterFailure::Dead).await.expect("it is held");
    }
    let answer = replay(&app, &ada, &json!({})).send().await.expect(200);
    assert_eq!(json!({"replayed": 1, "left_out": 1, "more": false}), answer.json());
    app.finish().await;
}

#[tokio::test]
async fn a_replay_whose_body_is_not_acceptable_queues_nothing() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    dead(&app, &ada, "work").await;
    let longest = "q".repeat(64);
    for (body, pointer) in [
        (json!({"queue": format!("{longest}q")}), "/queue"),
        (json!({"kind": ""}), "/kind"),
        (json!({"video_id": "x"}), "/video_id"),
        (json!({"state": "dead"}), "/state"),
    ] {
        let refused = replay(&app, &ada, &body).send().await.expect(422).json();
        assert_eq!(pointer, refused["errors"][0]["pointer"], "{body}");
    }
    assert_eq!(0, replay(&app, &ada, &json!({"queue": longest})).send().await.expect(200).json()["replayed"]);
    let empty = app.post("/api/v1/jobs/replay").by(&ada).send().await;
    assert_eq!("unsupported_media_type", empty.problem(415));
    assert_eq!("unauthenticated", app.post("/api/v1/jobs/replay").json(&json!({})).send().await.problem(401));
    assert_eq!(1, jobs(&app, &ada, "?state=dead").await.len());
    app.finish().await;
}
