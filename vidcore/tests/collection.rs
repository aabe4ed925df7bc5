//! The collection takes what belongs to nobody, at once, and nothing else.

use bytes::Bytes;
use futures_util::stream;
use proptest::prelude::*;
use vidcore::catalog::Video;
use vidcore::doctor::{self, Check, DoctorStore as _};
use vidcore::housekeeping::{Collected, collect};
use vidcore::media::{NewObject, PublishRendition};
use vidcore::storage::Objects;
use vidcore::store::Causes;
use vidcore::testkit::videos::{LEASE, Sourced, VideoHarness, content};

/// A store with its objects: one published video, and one whose renditions are being made.
struct House {
    h: VideoHarness,
    objects: Objects,
    listed: Video,
    processing: Sourced,
}

impl House {
    async fn new() -> Self {
        Self::over(Objects::memory()).await
    }

    async fn over(objects: Objects) -> Self {
        let h = VideoHarness::sqlite().await.expect("SQLite is always there");
        let owner = h.user().await;
        let listed = h.listed(owner, "Listed").await;
        let processing = h.sourced(&h.draft(owner, "Processing").await).await;
        let house = Self { h, objects, listed, processing };
        for object in house.recorded().await {
            house.put(&object.key, &content(object.size_bytes)).await;
        }
        house
    }

    async fn recorded(&self) -> Vec<NewObject> {
        self.h.base().store.recorded_objects("", 1000).await.expect("the store answers")
    }

    async fn put(&self, key: &str, bytes: &[u8]) {
        let stream = stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
        self.objects.write(key, stream, u64::MAX).await.expect("there is room");
    }

    /// A rendition of the second video as the attempt that holds it has put it, not published.
    async fn put_rendition(&self) -> PublishRendition {
        let row = self.h.planned(&self.processing, &["360p"]).await.remove("360p").expect("it was planned");
        let command = self.h.begun(&row, self.processing.lease.fence()).await;
        self.put(&command.objects[0].key, &content(command.objects[0].size_bytes)).await;
        self.put(&beside(&command), b"half").await;
        command
    }

    /// The worker goes away: its lease runs out and the sweep frees the job.
    async fn lose_the_worker(&self) {
        self.h.clock.advance(LEASE);
        self.h.store.sweep().await.expect("the store answers");
    }

    async fn collect(&self) -> Collected {
        collect(&*self.h.store, &self.objects).await.expect("everything answers")
    }

    async fn keys(&self) -> Vec<String> {
        let mut keys = self.objects.keys_under("").await.expect("memory answers");
        keys.sort();
        keys
    }

    /// The doctor finds nothing but these orphans.
    async fn assert_orphans(&self, keys: &[&str]) {
        let report = doctor::examine(&*self.h.store, &self.objects, true).await.expect("everything answers");
        let found: Vec<_> = report.findings.iter().map(|found| (found.check, &*found.subject)).collect();
        assert_eq!(keys.iter().map(|key| (Check::Orphan, *key)).collect::<Vec<_>>(), found, "{report:#?}");
    }
}

/// An object the attempt put that its publication does not name.
fn beside(command: &PublishRendition) -> String {
    command.objects[0].key.replace("index.m3u8", "left.m4s")
}

#[tokio::test]
async fn nothing_is_taken_where_everything_belongs_to_somebody() {
    let house = House::new().await;
    let before = house.keys().await;
    let collected = house.collect().await;
    assert_eq!(0, collected.objects);
    assert_eq!(before, house.keys().await);
    house.assert_orphans(&[]).await;
}

#[tokio::test]
async fn what_a_killed_attempt_put_goes_at_once() {
    let house = House::new().await;
    let before = house.keys().await;
    let command = house.put_rendition().await;
    house.lose_the_worker().await;
    house.assert_orphans(&[&command.objects[0].key, &beside(&command)]).await;
    // The prefix of the video that was published earlier is forgotten as well.
    assert_eq!(Collected { objects: 2, prefixes: 2, more: false }, house.collect().await);
    assert_eq!(before, house.keys().await);
    house.assert_orphans(&[]).await;
    assert_eq!(Collected::default(), house.collect().await);
}

#[tokio::test]
async fn what_a_running_attempt_put_stays() {
    let house = House::new().await;
    let command = house.put_rendition().await;
    let before = house.keys().await;
    // A lease that has run out is not an end: the sweep has not freed the job yet.
    for advance in [LEASE / 2, LEASE] {
        assert_eq!(0, house.collect().await.objects);
        assert_eq!(before, house.keys().await);
        house.h.clock.advance(advance);
    }
    assert!(before.contains(&command.objects[0].key));
}

#[tokio::test]
async fn of_a_published_prefix_only_what_was_not_published_goes() {
    let house = House::new().await;
    let command = house.put_rendition().await;
    let published = command.objects[0].key.clone();
    let (left, fence) = (beside(&command), command.fence);
    house.h.store.publish_rendition(command, Causes::none()).await.expect("the lease is held");
    house.h.store.complete(fence, Causes::none()).await.expect("the lease is held");
    // Everything under the prefix of a ready rendition is its own.
    house.assert_orphans(&[]).await;
    assert_eq!(0, house.collect().await.objects);
    assert!([published, left].iter().all(|key| key.starts_with("renditions/")));
}

#[tokio::test]
async fn what_a_frozen_process_puts_later_is_taken_by_the_next_collection() {
    let house = House::new().await;
    let command = house.put_rendition().await;
    house.lose_the_worker().await;
    house.collect().await;
    house.put(&beside(&command), b"late").await;
    house.assert_orphans(&[&beside(&command)]).await;
    assert_eq!(1, house.collect().await.objects);
    house.assert_orphans(&[]).await;
}

#[tokio::test]
async fn staged_bytes_stay_for_as_long_as_their_upload_is_open() {
    let house = House::new().await;
    let upload = house.h.open(&house.processing.video, 5).await;
    let key = format!("staging/{}/1", upload.id);
    house.put(&key, b"bytes").await;
    assert_eq!(0, house.collect().await.objects);
    house.h.store.abort_upload(upload.id, upload.user, house.h.now(), Causes::none()).await.expect("it is open");
    house.assert_orphans(&[&key]).await;
    assert_eq!(1, house.collect().await.objects);
    house.assert_orphans(&[]).await;
}

#[tokio::test]
async fn a_pinned_original_stays_while_it_is_verified_and_goes_once_it_is_rejected() {
    let house = House::new().await;
    let (upload, lease) = house.h.verifying(&house.processing.video, 5).await;
    let key = format!("originals/{}/{}", house.processing.video.id, upload.id);
    house.put(&key, &content(5)).await;
    assert_eq!(0, house.collect().await.objects);
    let reason = "No video.".to_owned();
    house.h.store.reject_upload(lease.fence(), upload.id, reason, house.h.now()).await.expect("the lease is held");
    assert_eq!(1, house.collect().await.objects);
    house.assert_orphans(&[]).await;
}

#[tokio::test]
async fn what_a_row_names_stays_though_its_own_row_is_lost() {
    let house = House::new().await;
    let before = house.keys().await;
    let db = house.h.base().connection();
    db.execute_batch("DELETE FROM objects").expect("the rows go");
    assert_eq!(0, house.collect().await.objects);
    assert_eq!(before, house.keys().await);
}

#[tokio::test]
async fn keys_of_others_are_left_alone() {
    let house = House::new().await;
    house.put("backup/today.tar", b"theirs").await;
    house.put("originals/stray", b"nobody's").await;
    assert_eq!(1, house.collect().await.objects);
    house.assert_orphans(&["backup/today.tar"]).await;
}

#[tokio::test]
async fn beside_an_empty_catalog_nothing_is_taken() {
    let house = House::new().await;
    let before = house.keys().await;
    let fresh = VideoHarness::sqlite().await.expect("SQLite is always there");
    collect(&*fresh.store, &house.objects).await.expect("everything answers");
    assert_eq!(before, house.keys().await);
}

#[tokio::test]
async fn files_of_broken_writes_go_with_their_prefix() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let house = House::over(Objects::local(folder.path()).expect("the folder is empty")).await;
    let command = house.put_rendition().await;
    let broken = folder.path().join(format!("{}#1", beside(&command)));
    std::fs::write(&broken, b"half").expect("there is room");
    let upload = house.h.open(&house.processing.video, 5).await;
    let staged = folder.path().join(format!("staging/{}", upload.id));
    std::fs::create_dir_all(&staged).expect("there is room");
    std::fs::write(staged.join("1#1"), b"half").expect("there is room");
    house.collect().await;
    assert!(broken.exists() && staged.exists(), "both are at work");
    house.lose_the_worker().await;
    house.h.store.abort_upload(upload.id, upload.user, house.h.now(), Causes::none()).await.expect("it is open");
    house.collect().await;
    assert!(!broken.exists() && !staged.exists());
    house.assert_orphans(&[]).await;
}

#[tokio::test]
async fn a_broken_write_of_a_frozen_process_goes_though_its_prefix_is_forgotten() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let house = House::over(Objects::local(folder.path()).expect("the folder is empty")).await;
    let before = house.keys().await;
    let command = house.put_rendition().await;
    house.lose_the_worker().await;
    house.collect().await;
    let broken = folder.path().join(format!("{}#1", beside(&command)));
    std::fs::create_dir_all(broken.parent().expect("it is in a folder")).expect("there is room");
    std::fs::write(&broken, b"half").expect("there is room");
    house.collect().await;
    assert!(!broken.exists());
    assert_eq!(before, house.keys().await);
}

/// What happens to one of a handful of videos.
#[derive(Debug, Clone, Copy)]
enum Event {
    Draft,
    Upload,
    Abort,
    Verify { accept: bool },
    Publish { finish: bool },
    Trash,
    Purge { finish: bool },
    Sweep,
    Collect,
}

fn events() -> impl Strategy<Value = Vec<(Event, u8)>> {
    let event = prop_oneof![
        2 => Just(Event::Draft),
        2 => Just(Event::Upload),
        1 => Just(Event::Abort),
        4 => any::<bool>().prop_map(|accept| Event::Verify { accept }),
        4 => any::<bool>().prop_map(|finish| Event::Publish { finish }),
        1 => Just(Event::Trash),
        1 => any::<bool>().prop_map(|finish| Event::Purge { finish }),
        2 => Just(Event::Sweep),
        2 => Just(Event::Collect),
    ];
    prop::collection::vec((event, any::<u8>()), 1..24)
}

impl House {
    /// Plays an event on one of the videos; one that is not possible there does nothing.
    async fn play(&self, videos: &mut Vec<Video>, event: Event, which: u8) {
        let h = &self.h;
        if let Event::Draft = event {
            videos.push(h.draft(self.listed.owner, "Another").await);
        }
        let video = h.store.video(videos[usize::from(which) % videos.len()].id).await.expect("the store answers");
        let Some(video) = video else { return };
        let trashed = video.deleted_at.is_some();
        match event {
            Event::Draft => {}
            Event::Upload | Event::Abort if !trashed => {
                let upload = h.store.create_upload(h.new_upload(&video, 5), Causes::none()).await;
                let Ok(upload) = upload.map(vidcore::store::Outcome::into_inner) else { return };
                self.put(&format!("staging/{}/1", upload.id), &content(5)).await;
                if let Event::Abort = event {
                    h.store.abort_upload(upload.id, upload.user, h.now(), Causes::none()).await.expect("it is open");
                }
            }
            Event::Verify { accept } if !trashed => {
                let (upload, lease) = h.verifying(&video, 1000).await;
                self.put(&format!("originals/{}/{}", video.id, upload.id), &content(1000)).await;
                if accept {
                    let command = h.commit(&upload, lease.fence());
                    let causes = Causes::none().job(h.process_job(&command.source));
                    h.store.commit_source(command, causes).await.expect("the lease is held");
                    h.store.complete(lease.fence(), Causes::none()).await.expect("the lease is held");
                }
            }
            Event::Publish { finish } if !trashed => {
                // Only where the video's own job is the next one.
                let sourced = h.sourced(&video).await;
                self.put(&sourced.source.object_key, &content(1000)).await;
                if sourced.lease.job.video != Some(video.id) {
                    return;
                }
                let row = h.planned(&sourced, &["360p"]).await.remove("360p").expect("it was planned");
                let command = h.begun(&row, sourced.lease.fence()).await;
                self.put(&command.objects[0].key, &content(10)).await;
                if finish {
                    h.store.publish_rendition(command, Causes::none()).await.expect("the lease is held");
                    h.store.complete(sourced.lease.fence(), Causes::none()).await.expect("the lease is held");
                }
            }
            Event::Trash if !trashed => {
                let (id, now) = (video.id, h.now());
                let trash = vidcore::catalog::TrashVideo { id, owner: None, expected: None, now, purge_at: now };
                h.store.trash_video(trash, Causes::none()).await.expect("it is not trashed");
            }
            Event::Purge { finish } if trashed => {
                h.store.begin_purge(video.id, h.now()).await.expect("its time is over");
                if finish {
                    h.store.finish_purge(video.id, Causes::none()).await.expect("the store answers");
                }
            }
            Event::Sweep => self.lose_the_worker().await,
            Event::Collect => {
                self.collect().await;
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happened: one collection leaves no orphan, and takes nothing that a row names.
    #[test]
    fn one_collection_leaves_no_orphan_and_every_object_of_a_row(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let house = House::new().await;
            let mut videos = vec![house.listed.clone(), house.processing.video.clone()];
            for (event, which) in events {
                house.play(&mut videos, event, which).await;
            }
            house.collect().await;
            let report = doctor::examine(&*house.h.store, &house.objects, false).await.expect("everything answers");
            let lost = |check| matches!(check, Check::Orphan | Check::ObjectMissing | Check::ObjectDiffers);
            let found: Vec<_> = report.findings.iter().filter(|found| lost(found.check)).collect();
            assert!(found.is_empty(), "{found:#?}");
        });
    }
}
