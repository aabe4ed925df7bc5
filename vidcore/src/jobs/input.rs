//! What a job of the embedding program's own may be.

use crate::invalid::FieldProblem;
use crate::jobs::{JobError, NewJob};

/// The longest name of a queue or a kind, in bytes.
const MAX_NAME: usize = 64;

/// The longest unique key, in characters.
const MAX_UNIQUE_KEY: usize = 200;

/// The largest payload as JSON, in bytes: what a handler needs are ids, not whole objects.
const MAX_PAYLOAD: usize = 64 * 1024;

/// The most a priority may differ from 0.
const MAX_PRIORITY: u8 = 10;

/// Whether a queue or a kind of job can be called this: 1 to 64 of `a` to `z`, `0` to `9`, `_`, `.` and `-`.
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'-');
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(allowed)
}

/// The job as it is, or every problem of it.
pub(super) fn check_new(job: NewJob) -> Result<NewJob, JobError> {
    let mut problems = Vec::new();
    check_name("/queue", job.queue.as_str(), &mut problems);
    check_work("", &job.kind, &job.payload, job.max_attempts, &mut problems);
    if job.priority.unsigned_abs() > MAX_PRIORITY {
        problems.push(FieldProblem::new("/priority", format!("between -{MAX_PRIORITY} and {MAX_PRIORITY}")));
    }
    if let Some(key) = &job.unique_key
        && !(1..=MAX_UNIQUE_KEY).contains(&key.chars().count())
    {
        problems.push(FieldProblem::new("/unique_key", format!("between 1 and {MAX_UNIQUE_KEY} characters")));
    }
    if job.group.is_some() {
        problems
            .push(FieldProblem::new("/group", "none: a group is written with its members, by what a handler causes"));
    }
    if let Some(next) = &job.on_dead {
        check_work("/on_dead", &next.kind, &next.payload, next.max_attempts, &mut problems);
    }
    if problems.is_empty() { Ok(job) } else { Err(JobError::Invalid(problems)) }
}

/// What a job and its follow-up have in common.
fn check_work(at: &str, kind: &str, payload: &serde_json::Value, max_attempts: u16, problems: &mut Vec<FieldProblem>) {
    check_name(&format!("{at}/kind"), kind, problems);
    // A JSON value has string keys only, so that it can always be written.
    let size = serde_json::to_vec(payload).map_or(usize::MAX, |bytes| bytes.len());
    if size > MAX_PAYLOAD {
        problems.push(FieldProblem::new(format!("{at}/payload"), format!("at most {MAX_PAYLOAD} bytes of JSON")));
    }
    if max_attempts == 0 {
        problems.push(FieldProblem::new(format!("{at}/max_attempts"), "at least 1"));
    }
}

fn check_name(field: &str, name: &str, problems: &mut Vec<FieldProblem>) {
    if !is_name(name) {
        let message = format!("1 to {MAX_NAME} lower-case letters, digits, underscores, dots and hyphens");
        problems.push(FieldProblem::new(field, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::clock::Timestamp;
    use crate::id::JobId;
    use crate::jobs::{FollowUp, QueueName};

    fn job() -> NewJob {
        NewJob::new(JobId::from_bytes([0; 16]), "mail", "send_mail", Value::Null, Timestamp::from_millis(0))
    }

    fn fields(job: NewJob) -> Vec<String> {
        match check_new(job) {
            Ok(_) => Vec::new(),
            Err(JobError::Invalid(problems)) => problems.into_iter().map(|problem| problem.field).collect(),
            Err(other) => panic!("expected problems, got {other:?}"),
        }
    }

    #[test]
    fn a_name_has_1_to_64_characters_of_a_small_alphabet() {
        for good in ["a", "process_video", "a.b-c_9", &"q".repeat(MAX_NAME)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "Media", "a b", "ü", "a/b", "a\n", &"q".repeat(MAX_NAME + 1)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_last_allowed_value_passes_and_the_next_is_refused() {
        // Two quotes are part of a text.
        let text = |bytes: usize| Value::String("x".repeat(bytes - 2));
        for (good, bad, field) in [
            (NewJob { priority: 10, ..job() }, NewJob { priority: 11, ..job() }, "/priority"),
            (NewJob { priority: -10, ..job() }, NewJob { priority: -11, ..job() }, "/priority"),
            (NewJob { max_attempts: 1, ..job() }, NewJob { max_attempts: 0, ..job() }, "/max_attempts"),
            (NewJob { payload: text(65_536), ..job() }, NewJob { payload: text(65_537), ..job() }, "/payload"),
            (
                NewJob { unique_key: Some("ü".repeat(200)), ..job() },
                NewJob { unique_key: Some("ü".repeat(201)), ..job() },
                "/unique_key",
            ),
        ] {
            assert!(fields(good).is_empty(), "{field}");
            assert_eq!([field], *fields(bad));
        }
    }

    #[test]
    fn every_problem_is_told_at_once_also_those_of_what_follows() {
        let on_dead =
            FollowUp { id: job().id, queue: None, kind: String::new(), payload: Value::Null, max_attempts: 0 };
        let bad = NewJob { queue: QueueName::new("No"), kind: "no no".to_owned(), on_dead: Some(on_dead), ..job() };
        assert_eq!(["/queue", "/kind", "/on_dead/kind", "/on_dead/max_attempts"], *fields(bad));
    }
}
