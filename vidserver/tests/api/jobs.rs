//! Background jobs as their owner and administrators see them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use vidcore::auth::Role;
use vidcore::media::simulated::SimulatedTranscoder;

use crate::app::{CLIP, TestApp, User, text};

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
    assert_eq!(process, answer.json());
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
    assert_eq!(BTreeSet::from(["process_video", "make_rendition", "settle_video"]), kinds);
    assert!(jobs(&app, &ada, "?state=dead").await.is_empty());
    let page = app.get("/api/v1/jobs?state=done&limit=7").by(&ada).send().await.expect(200);
    let cursor = text(&page.json()["next_cursor"]).to_owned();
    assert_eq!(1, jobs(&app, &ada, &format!("?state=done&limit=7&cursor={cursor}")).await.len());
    assert!(page.header("link").starts_with("</api/v1/jobs?state=done&limit=7&cursor="));
    let other = app.get(&format!("/api/v1/jobs?cursor={cursor}")).by(&ada).send().await;
    assert_eq!("bad_cursor", other.problem(400));
    for bad in ["?state=running", "?video_id=x", "?limit=0", "?x=1", "?state="] {
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
