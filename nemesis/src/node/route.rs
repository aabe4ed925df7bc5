//! The route of a node: enqueues one of its jobs.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use serde_json::{Value, json};
use vidcore::Platform;
use vidcore::entropy::SystemEntropy;
use vidcore::id::JobId;
use vidcore::jobs::{NewJob, QueueName};

use super::QUEUE;

/// Where jobs are asked for.
pub const PATH: &str = "/ledger/jobs";

/// The same as of other jobs in a campaign: never used up by kills.
const ATTEMPTS: u16 = 200;

pub(super) fn router(platform: &Platform) -> Router {
    Router::new().route(PATH, post(enqueue)).with_state(platform.clone())
}

/// Answers 201 with the job's id once the job is a row.
async fn enqueue(State(platform): State<Platform>) -> (StatusCode, Json<Value>) {
    let now = platform.now();
    let job = NewJob {
        id: JobId::new(now, &SystemEntropy),
        queue: QueueName::new(QUEUE),
        kind: QUEUE.to_owned(),
        payload: Value::Null,
        priority: 0,
        run_at: now,
        max_attempts: ATTEMPTS,
        unique_key: None,
        owner: None,
        video: None,
        group: None,
        on_dead: None,
        now,
    };
    match platform.jobs().enqueue(job).await {
        Ok(job) => (StatusCode::CREATED, Json(json!({"id": job.id}))),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, Json(Value::Null)),
    }
}
