//! Claims about every [`CatalogStore`](crate::catalog::CatalogStore).

use std::collections::HashSet;
use std::time::Duration;

use crate::catalog::popularity::RankingKind;
use crate::catalog::{CatalogError, OwnerScope, PatchVideo, TrashVideo, Video, VideoPatch, VideoStatus, Visibility};
use crate::id::{UserId, VideoId};
use crate::jobs::{JobFilter, JobState, MEDIA_QUEUE, VIDEO_QUEUE};
use crate::media::jobs::MAKE_POSTER;
use crate::page::Position;
use crate::store::Causes;
use crate::testkit::videos::VideoHarness;

mod lists;
mod purging;
mod ranking;
mod searching;
mod viewing;

pub use lists::*;
pub use purging::*;
pub use ranking::*;
pub use searching::*;
pub use viewing::*;

/// Runs every claim about a `CatalogStore` as a test of the module `$name`; `$harness` is a future of
/// `Option<VideoHarness>`, `None` where the back end's service is missing.
#[macro_export]
macro_rules! catalog_store_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            $crate::catalog_store_contract!(@claims $harness;
                a_new_video_is_a_draft_at_version_one,
                a_video_of_an_unknown_owner_is_not_created,
                a_patch_changes_what_it_names_and_raises_the_version,
                a_patch_of_a_stale_version_changes_nothing,
                a_patch_by_another_user_finds_nothing,
                a_moderator_patches_anybodys_video,
                a_patch_of_a_trashed_video_finds_nothing,
                closing_a_video_kills_its_links_and_opening_it_does_not,
                raising_the_epoch_is_a_change_of_the_version,
                trashing_hides_a_video_and_kills_its_links,
                trashing_twice_finds_nothing,
                trashing_a_stale_version_changes_nothing,
                trashing_cancels_a_queued_job_and_asks_a_running_one_to_stop,
                a_video_trashed_while_it_is_processed_is_uploaded_again,
                restoring_plans_what_the_trashing_stopped,
                restoring_a_published_video_plans_its_unprocessed_source,
                restoring_plans_renditions_that_were_never_made,
                restoring_plans_the_picture_whose_making_the_trashing_stopped,
                restoring_a_finished_video_plans_nothing,
                restoring_a_video_that_is_not_trashed_finds_nothing,
                a_video_is_purged_once_its_time_in_the_trash_is_over,
                a_video_whose_purge_began_is_not_restored_and_takes_no_source,
                a_purge_fences_what_runs_and_cancels_what_waits,
                a_purged_video_leaves_nothing,
                a_purge_forgets_what_its_owner_asked_for,
                a_video_is_sound_at_every_step_of_its_purge,
                a_purge_that_did_not_begin_does_not_end,
                purges_that_began_are_listed_first,
                videos_to_purge_are_listed_page_by_page,
                the_public_list_holds_listed_videos_alone,
                pages_neither_repeat_nor_skip_at_equal_times,
                pages_do_not_move_when_videos_are_published_in_between,
                an_owners_lists_hold_what_their_scope_says,
                views_count_open_videos_alone_and_leave_the_version,
                a_viewer_counts_once_within_the_window_and_again_after_it,
                viewers_and_videos_count_apart,
                a_viewer_whom_two_processes_saw_counts_once,
                a_batch_that_is_sent_again_counts_nothing_twice,
                a_view_from_the_future_does_not_stop_the_counting,
                viewers_are_forgotten_once_their_window_is_over,
                the_order_by_score_is_that_of_the_decayed_views,
                a_batch_is_worth_what_its_views_are,
                the_popular_list_is_sorted_by_views,
                what_is_new_trends_before_what_is_old,
                pages_of_a_ranking_neither_repeat_nor_skip,
                a_hidden_video_is_on_no_page_of_any_ranking,
                a_ranking_is_made_anew_after_its_time_and_not_before,
                of_many_who_want_a_ranking_one_makes_it,
                a_ranking_is_gone_after_its_time,
                the_id_of_a_ranking_is_never_given_out_again,
                a_ranking_is_found_under_its_own_kind_alone,
                an_empty_ranking_is_not_kept,
                what_can_change_no_public_list_drops_none,
                what_changes_a_public_list_drops_it,
                a_search_finds_the_beginning_of_the_last_word,
                a_search_ignores_case_and_diacritics,
                query_grammar_typed_by_a_person_is_text,
                a_title_is_worth_more_than_a_description,
                a_search_finds_listed_videos_alone,
                a_changed_title_is_found_and_the_old_one_is_not,
                a_search_is_paged_by_offset,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(h) = $harness.await { $crate::testkit::catalog::$claim(&h).await }
        }
    )+ };
}

fn patch(video: &Video, patch: VideoPatch) -> PatchVideo {
    let now = video.updated_at.plus(Duration::from_millis(1));
    PatchVideo { id: video.id, owner: Some(video.owner), expected: video.version, patch, now }
}

fn titled(title: &str) -> VideoPatch {
    VideoPatch { title: Some(title.to_owned()), ..VideoPatch::default() }
}

fn seen_by(visibility: Visibility) -> VideoPatch {
    VideoPatch { visibility: Some(visibility), ..VideoPatch::default() }
}

fn trash_of(h: &VideoHarness, video: &Video) -> TrashVideo {
    let purge_at = h.now().plus(Duration::from_secs(60));
    TrashVideo { id: video.id, owner: Some(video.owner), expected: None, now: h.now(), purge_at }
}

async fn change(h: &VideoHarness, video: &Video, change: VideoPatch) -> Video {
    let outcome = h.store.patch_video(patch(video, change), Causes::none()).await;
    outcome.expect("the version is the current one").into_inner()
}

async fn trash(h: &VideoHarness, video: &Video) -> Video {
    let outcome = h.store.trash_video(trash_of(h, video), Causes::none()).await;
    outcome.expect("the video is not trashed").into_inner()
}

/// Restores with a `process` job among the causes, as the service does.
async fn restore(h: &VideoHarness, video: &Video) -> Video {
    let mut causes = Causes::none();
    if let Some(source) = h.store.current_source(video.id).await.expect("the store answers") {
        causes = causes.job(h.process_job(&source));
    }
    h.store.restore_video(trash_of(h, video), causes).await.expect("the video is trashed").into_inner()
}

/// States of the video's jobs, newest first.
async fn job_states(h: &VideoHarness, video: VideoId) -> Vec<JobState> {
    let filter = JobFilter { video: Some(video), ..JobFilter::default() };
    let jobs = h.store.jobs(&filter, None, 100).await.expect("the store answers");
    jobs.into_iter().map(|job| job.state).collect()
}

async fn live_jobs(h: &VideoHarness, video: VideoId) -> usize {
    job_states(h, video).await.into_iter().filter(|state| !state.is_final()).count()
}

fn ids(videos: &[Video]) -> Vec<VideoId> {
    videos.iter().map(|video| video.id).collect()
}

async fn owned(h: &VideoHarness, owner: UserId, scope: OwnerScope) -> HashSet<VideoId> {
    let videos = h.store.videos_of(owner, scope, None, 50).await.expect("the store answers");
    videos.into_iter().map(|video| video.id).collect()
}

/// A draft is created as asked for.
pub async fn a_new_video_is_a_draft_at_version_one(h: &VideoHarness) {
    let owner = h.user().await;
    let mut new = h.new_video(owner, "First");
    new.tags = vec!["one".to_owned(), "two, \"quoted\"".to_owned()];
    let video = h.create(new.clone()).await;
    assert_eq!((new.id, owner, new.tags), (video.id, video.owner, video.tags.clone()));
    assert_eq!((VideoStatus::Draft, 1, 0, 0), (video.status, video.version, video.views, video.playback_epoch));
    assert_eq!(video, h.video(video.id).await);
}

/// There is no video without its owner.
pub async fn a_video_of_an_unknown_owner_is_not_created(h: &VideoHarness) {
    let new = h.new_video(UserId::new(h.now(), h.entropy()), "Nobody's");
    let id = new.id;
    assert!(matches!(h.store.create_video(new, Causes::none()).await, Err(CatalogError::NotFound)));
    assert_eq!(None, h.store.video(id).await.expect("the store answers"));
}

/// Fields that are not named stay.
pub async fn a_patch_changes_what_it_names_and_raises_the_version(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Before").await;
    let patched = change(h, &video, titled("After")).await;
    let expected = Video { title: "After".to_owned(), version: 2, updated_at: patched.updated_at, ..video.clone() };
    assert_eq!(expected, patched);
    assert!(patched.updated_at > video.updated_at);
    let emptied = VideoPatch { description: Some(String::new()), tags: Some(Vec::new()), ..VideoPatch::default() };
    assert_eq!(3, change(h, &patched, emptied).await.version);
}

/// Of two who read the same version one writes.
pub async fn a_patch_of_a_stale_version_changes_nothing(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Mine").await;
    let (one, two) = (patch(&video, titled("One")), patch(&video, titled("Two")));
    let (one, two) = tokio::join!(h.store.patch_video(one, Causes::none()), h.store.patch_video(two, Causes::none()));
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert!(matches!(lost, Err(CatalogError::VersionMismatch { current: 2 })), "{lost:?}");
    assert_eq!(won.expect("one of them wins").into_inner(), h.video(video.id).await);
}

/// A stranger's video looks like none.
pub async fn a_patch_by_another_user_finds_nothing(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Mine").await;
    let command = PatchVideo { owner: Some(h.user().await), ..patch(&video, titled("Yours")) };
    assert!(matches!(h.store.patch_video(command, Causes::none()).await, Err(CatalogError::NotFound)));
    assert_eq!(video, h.video(video.id).await);
}

/// No owner in the command means anybody's video.
pub async fn a_moderator_patches_anybodys_video(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Rude").await;
    let command = PatchVideo { owner: None, ..patch(&video, titled("Polite")) };
    h.store.patch_video(command, Causes::none()).await.expect("a moderator may");
    assert_eq!("Polite", h.video(video.id).await.title);
}

/// The trash is out of reach of patches.
pub async fn a_patch_of_a_trashed_video_finds_nothing(h: &VideoHarness) {
    let video = trash(h, &h.draft(h.user().await, "Gone").await).await;
    let outcome = h.store.patch_video(patch(&video, titled("Back")), Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
}

/// Links given out before die with the move to `private`, and only with it.
pub async fn closing_a_video_kills_its_links_and_opening_it_does_not(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Open").await;
    let unlisted = change(h, &video, seen_by(Visibility::Unlisted)).await;
    assert_eq!(0, unlisted.playback_epoch);
    let private = change(h, &unlisted, seen_by(Visibility::Private)).await;
    assert_eq!(1, private.playback_epoch);
    let still = change(h, &private, seen_by(Visibility::Private)).await;
    assert_eq!(1, still.playback_epoch);
    assert_eq!(1, change(h, &still, seen_by(Visibility::Public)).await.playback_epoch);
}

/// The links stand in the body, so the body's version changes.
pub async fn raising_the_epoch_is_a_change_of_the_version(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Revoked").await;
    let outcome = h.store.bump_playback_epoch(video.id, Some(video.owner), h.now(), Causes::none()).await;
    let raised = outcome.expect("it is the owner's").into_inner();
    assert_eq!((1, 2), (raised.playback_epoch, raised.version));
    let stranger = h.user().await;
    let outcome = h.store.bump_playback_epoch(video.id, Some(stranger), h.now(), Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    assert_eq!(raised, h.video(video.id).await);
}

/// A trashed video is in no list but the trash.
pub async fn trashing_hides_a_video_and_kills_its_links(h: &VideoHarness) {
    let owner = h.user().await;
    let video = h.listed(owner, "Regretted").await;
    let trashed = trash(h, &video).await;
    assert_eq!(video.playback_epoch + 1, trashed.playback_epoch);
    assert_eq!(video.version + 1, trashed.version);
    assert!(trashed.deleted_at.is_some() && trashed.purge_at > trashed.deleted_at && !trashed.is_open());
    assert!(h.store.public_videos(None, 10).await.expect("the store answers").is_empty());
    assert!(ranked(h, RankingKind::Trending).await.is_empty());
    assert_eq!(HashSet::from([video.id]), owned(h, owner, OwnerScope::Trash).await);
}

/// The second of two trashings has nothing to do.
pub async fn trashing_twice_finds_nothing(h: &VideoHarness) {
    let trashed = trash(h, &h.draft(h.user().await, "Gone").await).await;
    let outcome = h.store.trash_video(trash_of(h, &trashed), Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    assert_eq!(trashed, h.video(trashed.id).await);
}

/// A version is honoured where one is given.
pub async fn trashing_a_stale_version_changes_nothing(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Kept").await;
    let stale = TrashVideo { expected: Some(video.version + 1), ..trash_of(h, &video) };
    let outcome = h.store.trash_video(stale, Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::VersionMismatch { current: 1 })), "{outcome:?}");
    assert_eq!(video, h.video(video.id).await);
}

/// Jobs of a trashed video end, at once or at their next heartbeat.
pub async fn trashing_cancels_a_queued_job_and_asks_a_running_one_to_stop(h: &VideoHarness) {
    let owner = h.user().await;
    let running = h.sourced(&h.draft(owner, "Running").await).await;
    let queued = h.draft(owner, "Queued").await;
    h.commit_source(&queued).await;
    trash(h, &queued).await;
    trash(h, &running.video).await;
    assert_eq!(vec![JobState::Cancelled], job_states(h, queued.id).await);
    let beat = h.store.heartbeat(running.lease.fence(), Duration::from_secs(1), None).await;
    assert!(beat.expect("the lease is held").cancel);
}

/// Its status is one that restoring can go on from.
pub async fn a_video_trashed_while_it_is_processed_is_uploaded_again(h: &VideoHarness) {
    let sourced = h.sourced(&h.draft(h.user().await, "Half way").await).await;
    h.planned(&sourced, &["360p"]).await;
    assert_eq!(VideoStatus::Processing, h.video(sourced.video.id).await.status);
    assert_eq!(VideoStatus::Uploaded, trash(h, &sourced.video).await.status);
}

/// Also while the job that was told to stop has not yet done so.
pub async fn restoring_plans_what_the_trashing_stopped(h: &VideoHarness) {
    let sourced = h.sourced(&h.draft(h.user().await, "Back").await).await;
    h.planned(&sourced, &["360p"]).await;
    trash(h, &sourced.video).await;
    let restored = restore(h, &sourced.video).await;
    assert_eq!((VideoStatus::Uploaded, None, None), (restored.status, restored.deleted_at, restored.purge_at));
    let next = h.claim(VIDEO_QUEUE).await;
    assert_ne!(sourced.lease.job.id, next.job.id);
    h.store.start_processing(next.fence(), sourced.source.id, h.now()).await.expect("the new job goes on");
}

/// What an earlier source keeps playable is not all there is to make.
pub async fn restoring_a_published_video_plans_its_unprocessed_source(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Twice").await;
    let second = h.sourced(&video).await;
    h.planned(&second, &["360p"]).await;
    trash(h, &video).await;
    h.store.settle_cancelled(second.lease.fence()).await.expect("the lease is held");
    let restored = restore(h, &video).await;
    assert_eq!(VideoStatus::Uploaded, restored.status);
    assert!(restored.is_playable());
    assert_eq!(1, live_jobs(h, video.id).await);
}

/// A video is ready with its first rendition; the others are still owed.
pub async fn restoring_plans_renditions_that_were_never_made(h: &VideoHarness) {
    let sourced = h.sourced(&h.draft(h.user().await, "Ladder").await).await;
    let rows = h.planned(&sourced, &["360p", "720p"]).await;
    let command = h.begun(&rows["360p"], sourced.lease.fence()).await;
    h.store.publish_rendition(command, Causes::none()).await.expect("the lease is held");
    trash(h, &sourced.video).await;
    h.store.settle_cancelled(sourced.lease.fence()).await.expect("the lease is held");
    assert_eq!(VideoStatus::Ready, restore(h, &sourced.video).await.status);
    assert_eq!(1, live_jobs(h, sourced.video.id).await);
}

/// All its renditions are there, its poster is not.
pub async fn restoring_plans_the_picture_whose_making_the_trashing_stopped(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Faceless").await;
    let job = h.new_job(MEDIA_QUEUE, MAKE_POSTER, Some(video.id));
    h.store.enqueue(job, Causes::none()).await.expect("the job is new");
    trash(h, &video).await;
    assert_eq!(0, live_jobs(h, video.id).await);
    assert_eq!(VideoStatus::Ready, restore(h, &video).await.status);
    assert_eq!(1, live_jobs(h, video.id).await);
}

/// A job that finds everything made would be a waste.
pub async fn restoring_a_finished_video_plans_nothing(h: &VideoHarness) {
    let video = h.listed(h.user().await, "Done").await;
    trash(h, &video).await;
    let restored = restore(h, &video).await;
    assert_eq!((VideoStatus::Ready, true), (restored.status, restored.is_listed()));
    assert_eq!(0, live_jobs(h, video.id).await);
}

/// Nor does one of somebody else.
pub async fn restoring_a_video_that_is_not_trashed_finds_nothing(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Here").await;
    let outcome = h.store.restore_video(trash_of(h, &video), Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    let trashed = trash(h, &video).await;
    let command = TrashVideo { owner: Some(h.user().await), ..trash_of(h, &video) };
    let outcome = h.store.restore_video(command, Causes::none()).await;
    assert!(matches!(outcome, Err(CatalogError::NotFound)), "{outcome:?}");
    assert_eq!(trashed, h.video(video.id).await);
}

/// Public, playable and not trashed: nothing else.
pub async fn the_public_list_holds_listed_videos_alone(h: &VideoHarness) {
    let owner = h.user().await;
    let listed = h.listed(owner, "Listed").await;
    h.draft(owner, "Draft").await;
    for visibility in [Visibility::Unlisted, Visibility::Private] {
        let mut new = h.new_video(owner, "Hidden");
        new.visibility = visibility;
        h.playable(new).await;
    }
    let trashed = h.listed(owner, "Trashed").await;
    trash(h, &trashed).await;
    let public = h.store.public_videos(None, 10).await.expect("the store answers");
    assert_eq!(vec![listed.id], ids(&public));
    for kind in RankingKind::ALL {
        assert_eq!(vec![listed.id], ranked(h, kind).await);
    }
}

/// Every page of the public list, each `limit` long.
async fn walk(h: &VideoHarness, limit: u16, mut between: impl AsyncFnMut()) -> Vec<VideoId> {
    let (mut after, mut walked) = (None, Vec::new());
    loop {
        let page = h.store.public_videos(after, limit).await.expect("the store answers");
        let Some(last) = page.last() else { return walked };
        let sort = last.published_at.expect("listed videos are published").as_millis();
        after = Some(Position { sort, id: *last.id.as_bytes() });
        walked.extend(ids(&page));
        between().await;
    }
}

/// The clock stands still here: every video is published in the same millisecond.
pub async fn pages_neither_repeat_nor_skip_at_equal_times(h: &VideoHarness) {
    let owner = h.user().await;
    let mut expected = Vec::new();
    for number in 0..7 {
        expected.push(h.listed(owner, &format!("Video {number}")).await.id);
        if number == 3 {
            h.clock.advance(Duration::from_millis(1));
        }
    }
    for limit in [1, 2, 3, 7, 8] {
        let walked = walk(h, limit, async || ()).await;
        assert_eq!(expected.len(), walked.len(), "pages of {limit}");
        assert_eq!(HashSet::from_iter(&expected), walked.iter().collect::<HashSet<_>>(), "pages of {limit}");
        let later: HashSet<_> = expected[4..].iter().collect();
        assert!(walked[..3].iter().all(|id| later.contains(id)), "newest first");
    }
}

/// What is new stands before the first page.
pub async fn pages_do_not_move_when_videos_are_published_in_between(h: &VideoHarness) {
    let owner = h.user().await;
    let mut expected = Vec::new();
    for number in 0..5 {
        h.clock.advance(Duration::from_millis(10));
        expected.insert(0, h.listed(owner, &format!("Old {number}")).await.id);
    }
    let walked = walk(h, 2, async || {
        h.clock.advance(Duration::from_millis(10));
        h.listed(owner, "New").await;
    })
    .await;
    assert_eq!(expected, walked);
}

/// Drafts are the owner's business, the trash another list.
pub async fn an_owners_lists_hold_what_their_scope_says(h: &VideoHarness) {
    let owner = h.user().await;
    let (listed, draft, gone) =
        (h.listed(owner, "Listed").await, h.draft(owner, "Draft").await, h.draft(owner, "Gone").await);
    trash(h, &gone).await;
    h.listed(h.user().await, "Somebody else's").await;
    assert_eq!(HashSet::from([listed.id]), owned(h, owner, OwnerScope::Public).await);
    assert_eq!(HashSet::from([listed.id, draft.id]), owned(h, owner, OwnerScope::Own).await);
    assert_eq!(HashSet::from([gone.id]), owned(h, owner, OwnerScope::Trash).await);
    let first = h.store.videos_of(owner, OwnerScope::Own, None, 1).await.expect("the store answers");
    let after = Position { sort: first[0].created_at.as_millis(), id: *first[0].id.as_bytes() };
    let second = h.store.videos_of(owner, OwnerScope::Own, Some(after), 5).await.expect("the store answers");
    assert_eq!(HashSet::from([listed.id, draft.id]), ids(&first).into_iter().chain(ids(&second)).collect());
}
