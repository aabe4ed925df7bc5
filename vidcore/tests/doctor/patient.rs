//! A store in which every state occurs, with its objects.

use bytes::Bytes;
use futures_util::stream;
use vidcore::catalog::Video;
use vidcore::doctor::{self, Check, DoctorStore as _, Report};
use vidcore::id::JobGroupId;
use vidcore::jobs::{NewJob, NewJobGroup, QueueName};
use vidcore::storage::Objects;
use vidcore::store::Causes;
use vidcore::testkit::videos::{Sourced, VideoHarness, content};

/// A store in which every state occurs, with its objects: sound until a test damages it.
pub(crate) struct Patient {
    pub(crate) h: VideoHarness,
    pub(crate) objects: Objects,
    pub(crate) listed: Video,
    pub(crate) processing: Sourced,
    pub(crate) uploaded: Video,
}

impl Patient {
    pub(crate) async fn sound() -> Self {
        let h = VideoHarness::sqlite().await.expect("SQLite is always there");
        let owner = h.user().await;
        let mut new = h.new_video(owner, "Über \"quoted\" – 1st!");
        (new.description, new.tags) = ("Line one\nline two".to_owned(), vec!["tag".to_owned(), "ß".to_owned()]);
        let listed = h.playable(new).await;
        h.draft(owner, "…").await;
        let processing = h.sourced(&h.draft(owner, "Processing").await).await;
        h.planned(&processing, &["360p"]).await;
        let uploaded = h.draft(owner, "Uploaded").await;
        h.commit_source(&uploaded).await;
        h.open(&uploaded, 10).await;
        let patient = Self { h, objects: Objects::memory(), listed, processing, uploaded };
        patient.store_objects().await;
        patient
    }

    pub(crate) async fn store_objects(&self) {
        for object in self.h.base().store.recorded_objects("", 100).await.expect("the store answers") {
            self.put(&object.key, &content(object.size_bytes)).await;
        }
    }

    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) {
        let stream = stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
        self.objects.write(key, stream, u64::MAX).await.expect("memory takes it");
    }

    /// A group of two queued jobs of the queue `other`, followed by one of the queue `next`.
    pub(crate) async fn group(&self) -> JobGroupId {
        let id = JobGroupId::new(self.h.now(), self.h.entropy());
        let member = || NewJob { group: Some(id), ..self.h.new_job("other", "member", None) };
        let group = NewJobGroup { id, next: self.h.new_job("next", "next", None) };
        let causes = Causes::none().group(group).job(member()).job(member());
        // Any command carries causes; this one does nothing else.
        self.h.store.set_paused(&QueueName::new("nobodys"), false, causes).await.expect("the store answers");
        id
    }

    /// Plants damage past every rule of the schema.
    pub(crate) fn damage(&self, sql: &str) {
        let db = self.h.base().connection();
        db.execute_batch("PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0").expect("pragmas are known");
        db.execute_batch(sql).expect("the damage is valid SQL");
    }

    pub(crate) async fn examine(&self, deep: bool) -> Report {
        doctor::examine(&*self.h.store, &self.objects, deep).await.expect("everything answers")
    }

    /// Exactly these findings, by check and subject.
    pub(crate) async fn assert_found(&self, expected: &[(Check, String)]) {
        for deep in [false, true] {
            let report = self.examine(deep).await;
            let found: Vec<_> = report.findings.iter().map(|f| (f.check, f.subject.clone())).collect();
            assert_eq!(expected, found, "{report:#?}");
            assert!(report.findings.iter().all(|f| f.explanation.ends_with('.')), "{report:#?}");
        }
    }
}
