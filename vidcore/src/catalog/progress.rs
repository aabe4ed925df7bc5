//! How far the making of a video has come, over all of its renditions.

use crate::catalog::VideoStatus;
use crate::jobs::Job;
use crate::media::jobs::PROCESS_VIDEO;
use crate::media::settle_video::job_of;
use crate::media::{Rendition, RenditionStatus};

/// The whole, in permille.
const WHOLE: u32 = 1000;

/// The share of the whole at which renditions are planned: the source is fetched and probed before.
const PLANNED: u32 = 50;

/// Permille of the work on the current source that is over: the average over its renditions, of those on
/// their way by their jobs. The whole only once the video is ready and nothing is on its way. The jobs are
/// the video's latest, newest first.
pub(super) fn progress(status: VideoStatus, renditions: &[Rendition], jobs: &[Job]) -> u16 {
    let is_planning = jobs.iter().any(|job| job.kind == PROCESS_VIDEO && !job.state.is_final());
    let shares: Vec<Share> = renditions.iter().map(|row| share(row, jobs, is_planning)).collect();
    let permille = match status {
        VideoStatus::Draft | VideoStatus::Uploaded | VideoStatus::Failed => 0,
        VideoStatus::Ready if shares.iter().all(|share| share.is_over) => WHOLE,
        VideoStatus::Processing | VideoStatus::Ready => begun(&shares).min(WHOLE - 1),
    };
    u16::try_from(permille).unwrap_or(u16::MAX)
}

fn begun(shares: &[Share]) -> u32 {
    let count = u32::try_from(shares.len()).unwrap_or(u32::MAX);
    match shares.iter().map(|share| share.permille).sum::<u32>().checked_div(count) {
        Some(average) => PLANNED + average * (WHOLE - PLANNED) / WHOLE,
        None => 0,
    }
}

/// How far one rendition is, and whether nothing more is done for it.
struct Share {
    permille: u32,
    is_over: bool,
}

fn share(row: &Rendition, jobs: &[Job], is_planning: bool) -> Share {
    let job = job_of(row.id, jobs);
    let is_live = job.is_some_and(|job| !job.state.is_final());
    match row.status {
        RenditionStatus::Ready => Share { permille: WHOLE, is_over: true },
        // One that failed is made again only by a later run.
        RenditionStatus::Failed if !is_live && !is_planning => Share { permille: WHOLE, is_over: true },
        RenditionStatus::Failed if !is_live => Share { permille: 0, is_over: false },
        _ => Share { permille: job.map_or(0, |job| job.progress.into()), is_over: false },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::entropy::{Entropy, SeededEntropy};
    use crate::id::{JobId, RenditionId, SourceId, VideoId};
    use crate::jobs::{JobState, MEDIA_QUEUE, QueueName};
    use crate::media::RenditionKind;
    use crate::media::jobs::MAKE_RENDITION;

    fn row(entropy: &dyn Entropy, status: RenditionStatus) -> Rendition {
        let now = Timestamp::default();
        Rendition {
            id: RenditionId::new(now, entropy),
            video: VideoId::new(now, entropy),
            source: SourceId::new(now, entropy),
            name: "360p".to_owned(),
            kind: RenditionKind::Hls,
            status,
            width: 640,
            height: 360,
            bandwidth: None,
            codecs: None,
            prefix: None,
            failure: None,
            ready_at: None,
        }
    }

    fn job(entropy: &dyn Entropy, of: &Rendition, state: JobState, progress: u16) -> Job {
        let now = Timestamp::default();
        Job {
            id: JobId::new(now, entropy),
            queue: QueueName::new(MEDIA_QUEUE),
            kind: MAKE_RENDITION.to_owned(),
            payload: json!({"video": of.video, "source": of.source, "rendition": of.id}),
            state,
            priority: 0,
            run_at: now,
            attempts: 1,
            max_attempts: 5,
            progress,
            last_error: None,
            death: None,
            owner: None,
            video: Some(of.video),
            cancel_requested: false,
            created_at: now,
            updated_at: now,
            finished_at: None,
        }
    }

    #[test]
    fn it_grows_from_the_plan_to_the_last_rendition_and_is_whole_at_the_end() {
        use RenditionStatus::{Encoding, Planned, Ready};
        let entropy = SeededEntropy::new(1);
        let (mut large, mut small) = (row(&entropy, Planned), row(&entropy, Planned));
        let mut seen = vec![progress(VideoStatus::Processing, &[], &[])];
        let mut look = |status, large: &Rendition, small: &Rendition, jobs: &[Job]| {
            seen.push(progress(status, &[large.clone(), small.clone()], jobs));
        };
        look(VideoStatus::Processing, &large, &small, &[]);
        small.status = Encoding;
        let of_small = |state, progress| job(&entropy, &small, state, progress);
        look(VideoStatus::Processing, &large, &small, &[of_small(JobState::Leased, 500)]);
        // An attempt that failed waits for the next one.
        look(VideoStatus::Processing, &large, &small, &[of_small(JobState::Queued, 500)]);
        let done = of_small(JobState::Done, 1000);
        small.status = Ready;
        look(VideoStatus::Ready, &large, &small, std::slice::from_ref(&done));
        large.status = Encoding;
        look(VideoStatus::Ready, &large, &small, &[job(&entropy, &large, JobState::Leased, 900), done]);
        large.status = Ready;
        look(VideoStatus::Ready, &large, &small, &[]);
        assert_eq!(vec![0, 50, 287, 287, 525, 952, 1000], seen);
    }

    #[test]
    fn a_rendition_that_failed_for_good_holds_nothing_up() {
        let entropy = SeededEntropy::new(1);
        let (ready, failed) = (row(&entropy, RenditionStatus::Ready), row(&entropy, RenditionStatus::Failed));
        let rows = [ready, failed.clone()];
        assert_eq!(1000, progress(VideoStatus::Ready, &rows, &[job(&entropy, &failed, JobState::Dead, 300)]));
        assert_eq!(667, progress(VideoStatus::Ready, &rows, &[job(&entropy, &failed, JobState::Queued, 300)]));
    }
}
