//! The jobs of this room and how one leads to the next.
//!
//! [`PROCESS_VIDEO`] looks at a source and, in the transaction that ends it, writes one job for everything
//! that is missing: [`MAKE_RENDITION`] for each rendition, [`MAKE_POSTER`], [`MAKE_STORYBOARD`]. They run side
//! by side, on as many workers as there are, each with attempts of its own. They are a group: the end of the
//! last one writes [`SETTLE_VIDEO`], which says what became of the video.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::catalog::CatalogError;
use crate::id::{JobGroupId, JobId, RenditionId, SourceId, UserId, VideoId};
use crate::jobs::worker::{JobContext, JobFailure};
use crate::jobs::{FollowUp, MEDIA_QUEUE, NewJob, NewJobGroup, QueueName, VIDEO_QUEUE};
use crate::media::{Rendition, Source};
use crate::platform::parts::Parts;
use crate::store::Causes;

/// Looks at a source and plans what is to be made of it.
pub const PROCESS_VIDEO: &str = "process_video";

/// Makes one rendition.
pub const MAKE_RENDITION: &str = "make_rendition";

/// Makes the poster.
pub const MAKE_POSTER: &str = "make_poster";

/// Makes the storyboard.
pub const MAKE_STORYBOARD: &str = "make_storyboard";

/// Says what became of a video once nothing of it is made any more.
pub const SETTLE_VIDEO: &str = "settle_video";

/// Says the same of a video whose processing died before anything was planned.
pub const FAIL_VIDEO: &str = "fail_video";

/// How often the jobs that have the last word are tried: they only write a few rows.
const LAST_WORD_ATTEMPTS: u16 = 50;

/// How often a picture is tried: a video is whole without.
const PICTURE_ATTEMPTS: u16 = 3;

/// The smallest rendition goes first, so that the video can be played soonest; then the poster, which is
/// quick and is seen first. A step is worth a minute of age.
const SMALLEST_FIRST: i8 = 5;
const POSTER_NEXT: i8 = 4;
const STORYBOARD_LAST: i8 = -5;

/// What [`PROCESS_VIDEO`], [`MAKE_POSTER`] and [`MAKE_STORYBOARD`] need.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SourcePayload {
    pub(crate) video: VideoId,
    pub(crate) source: SourceId,
}

/// What [`MAKE_RENDITION`] needs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RenditionPayload {
    pub(crate) video: VideoId,
    pub(crate) source: SourceId,
    pub(crate) rendition: RenditionId,
}

/// What [`SETTLE_VIDEO`] needs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SettlePayload {
    pub(crate) video: VideoId,
}

/// What [`FAIL_VIDEO`] needs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FailPayload {
    pub(crate) video: VideoId,
    /// The job that died.
    pub(crate) job: JobId,
}

/// The unique key of the job that makes a rendition: at most one is live.
pub(crate) fn rendition_key(rendition: RenditionId) -> String {
    format!("{MAKE_RENDITION}:{rendition}")
}

/// The job that plans the renditions of `source`. At most one is live for each source.
pub(crate) fn process_job(parts: &Parts, source: &Source, owner: UserId) -> NewJob {
    let now = parts.now();
    let id = JobId::new(now, &*parts.entropy);
    let payload = json!(SourcePayload { video: source.video, source: source.id });
    NewJob {
        max_attempts: parts.settings.worker.max_attempts,
        unique_key: Some(format!("{PROCESS_VIDEO}:{}", source.id)),
        owner: Some(owner),
        video: Some(source.video),
        on_dead: Some(FollowUp {
            id: JobId::new(now, &*parts.entropy),
            queue: None,
            kind: FAIL_VIDEO.to_owned(),
            payload: json!(FailPayload { video: source.video, job: id }),
            max_attempts: LAST_WORD_ATTEMPTS,
        }),
        ..NewJob::new(id, VIDEO_QUEUE, PROCESS_VIDEO, payload, now)
    }
}

/// What is missing of a source.
#[derive(Debug)]
pub(crate) struct Missing<'a> {
    /// Smallest first.
    pub(crate) renditions: Vec<&'a Rendition>,
    pub(crate) poster: bool,
    pub(crate) storyboard: bool,
}

/// One job for everything that is missing, and what follows them all.
pub(crate) fn fan_out(parts: &Parts, source: &Source, owner: Option<UserId>, missing: &Missing<'_>) -> Causes {
    let fan = Fan { parts, source, owner, group: JobGroupId::new(parts.now(), &*parts.entropy) };
    let mut causes = Causes::none().group(NewJobGroup { id: fan.group, next: fan.settle() });
    for (place, row) in missing.renditions.iter().enumerate() {
        causes = causes.job(fan.rendition(row, place));
    }
    if missing.poster {
        causes = causes.job(fan.picture(MAKE_POSTER, POSTER_NEXT));
    }
    if missing.storyboard {
        causes = causes.job(fan.picture(MAKE_STORYBOARD, STORYBOARD_LAST));
    }
    causes
}

/// What the jobs of one fan-out have in common.
struct Fan<'a> {
    parts: &'a Parts,
    source: &'a Source,
    owner: Option<UserId>,
    group: JobGroupId,
}

impl Fan<'_> {
    fn job(&self, queue: &str, kind: &str, payload: serde_json::Value) -> NewJob {
        let now = self.parts.now();
        let id = JobId::new(now, &*self.parts.entropy);
        NewJob { owner: self.owner, video: Some(self.source.video), ..NewJob::new(id, queue, kind, payload, now) }
    }

    /// The follow-up is for a job that is replayed: it has left its group, and nothing else would say what
    /// became of the video if it dies again.
    fn rendition(&self, row: &Rendition, place: usize) -> NewJob {
        let Source { video, id: source, .. } = *self.source;
        let payload = json!(RenditionPayload { video, source, rendition: row.id });
        let follow_up = FollowUp {
            id: JobId::new(self.parts.now(), &*self.parts.entropy),
            // Last words are short: they do not wait for an encoding.
            queue: Some(QueueName::new(VIDEO_QUEUE)),
            kind: SETTLE_VIDEO.to_owned(),
            payload: json!(SettlePayload { video }),
            max_attempts: LAST_WORD_ATTEMPTS,
        };
        NewJob {
            priority: rendition_priority(place),
            max_attempts: self.parts.settings.worker.max_attempts,
            unique_key: Some(rendition_key(row.id)),
            on_dead: Some(follow_up),
            group: Some(self.group),
            ..self.job(MEDIA_QUEUE, MAKE_RENDITION, payload)
        }
    }

    fn picture(&self, kind: &str, priority: i8) -> NewJob {
        let payload = json!(SourcePayload { video: self.source.video, source: self.source.id });
        NewJob {
            priority,
            max_attempts: self.parts.settings.worker.max_attempts.min(PICTURE_ATTEMPTS),
            unique_key: Some(format!("{kind}:{}", self.source.id)),
            group: Some(self.group),
            ..self.job(MEDIA_QUEUE, kind, payload)
        }
    }

    fn settle(&self) -> NewJob {
        let payload = json!(SettlePayload { video: self.source.video });
        NewJob { max_attempts: LAST_WORD_ATTEMPTS, ..self.job(VIDEO_QUEUE, SETTLE_VIDEO, payload) }
    }
}

/// Of the renditions that are missing, smallest first: the first one goes before the poster, the others after.
fn rendition_priority(place: usize) -> i8 {
    let later = i8::try_from(place).unwrap_or(i8::MAX);
    if later == 0 { SMALLEST_FIRST } else { (POSTER_NEXT - 1).saturating_sub(later - 1).max(STORYBOARD_LAST) }
}

/// The payload of a job; one that does not parse can never be run.
pub(crate) fn payload<T: serde::de::DeserializeOwned>(context: &JobContext) -> Result<T, JobFailure> {
    serde_json::from_value(context.lease.job.payload.clone())
        .map_err(|error| JobFailure::Permanent(format!("the job's payload cannot be read: {error}")))
}

/// How an attempt ends when a command on its behalf was refused.
pub(crate) fn failure(error: CatalogError) -> JobFailure {
    match error {
        CatalogError::Fenced => JobFailure::Fenced,
        error => JobFailure::Retry(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_rendition_goes_first_and_then_the_poster() {
        let order: Vec<i8> = (0..8).map(rendition_priority).collect();
        assert!(order.windows(2).all(|pair| pair[0] > pair[1]), "{order:?}");
        assert!(order[0] > POSTER_NEXT && POSTER_NEXT > order[1] && order[7] > STORYBOARD_LAST, "{order:?}");
    }
}
