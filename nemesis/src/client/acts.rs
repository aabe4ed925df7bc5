//! What users do.

use bytes::Bytes;
use futures_util::stream;
use reqwest::Method;
use serde_json::json;

use super::model::{FIXTURES, Fixture, UploadModel, VideoModel};
use super::user::User;
use super::{Answer, Call, Reply};
use crate::{Failure, node};

/// Videos of one user on which something is done; older ones are left to the checks.
const IN_USE: usize = 4;

/// How often bytes are sent before an upload is left alone.
const DELIVERIES: u32 = 40;

/// How often a change is tried against a video whose version moves.
const PATCHES: u32 = 5;

impl User {
    /// Does one thing.
    ///
    /// # Errors
    /// A call is not answered within its bound.
    pub async fn act(&mut self) -> Result<(), Failure> {
        if self.videos.is_empty() {
            return self.create().await.map(|_| ());
        }
        if self.enqueues && self.rng.bool() {
            self.enqueue().await;
            return Ok(());
        }
        let newest = self.videos.len().saturating_sub(IN_USE);
        let index = self.rng.usize(newest..self.videos.len());
        match self.rng.u8(0..20) {
            0..5 => {
                let index = self.create().await?;
                self.upload(index).await
            }
            5..8 => self.upload(index).await,
            8..11 => self.patch(index).await,
            11..13 => self.trash_or_restore(index).await,
            13..15 => self.process(index).await,
            15 => self.cancel(index).await,
            _ => self.look(index).await,
        }
    }

    /// Creates a public draft; returns its place among the videos.
    ///
    /// # Errors
    /// It is not answered.
    pub async fn create(&mut self) -> Result<usize, Failure> {
        let title = format!("Video {} of user {}", self.videos.len(), self.number);
        let call = Call::new("create", Method::POST, "/api/v1/videos", "")
            .body(json!({"title": title, "visibility": "public"}))
            .key(self.next_key());
        let answer = self.caller.persist(&call, |answer| Some(answer.text("id"))).await?;
        self.expect(&call, &answer, 201, &[]);
        let id = answer.text("id");
        self.remember(call, &answer);
        self.videos.push(VideoModel::new(id, title));
        Ok(self.videos.len() - 1)
    }

    /// Asks for a job with an effect outside the platform; without an answer there may be one or not.
    async fn enqueue(&mut self) {
        let call = Call::new("enqueue", Method::POST, node::PATH, "");
        if let Reply::Answer(answer) = self.caller.once(&call, |answer| Some(answer.text("id"))).await {
            self.expect(&call, &answer, 201, &[]);
        }
    }

    /// Walks an upload from its opening to its completion, or gives it up on the way.
    async fn upload(&mut self, index: usize) -> Result<(), Failure> {
        let files: &[usize] = if self.encodes { &[0, 0, 0, 1, 1, 1, 2, 3] } else { &[0, 0, 1, 1, 2] };
        let fixture = FIXTURES[files[self.rng.usize(0..files.len())]];
        let Some(at) = self.open(index, fixture).await? else { return Ok(()) };
        match self.rng.u8(0..20) {
            0 => return Ok(()),
            1 => return self.abort(index, at).await,
            _ => {}
        }
        if self.deliver(index, at).await? {
            self.complete(index, at).await?;
        }
        Ok(())
    }

    /// Uploads a file to a new video with no detours; returns the video's id.
    ///
    /// # Errors
    /// A call is not answered, or refused.
    pub async fn publish(&mut self, fixture: Fixture) -> Result<String, Failure> {
        let index = self.create().await?;
        let at = self.open(index, fixture).await?.ok_or("an upload of a new video is refused")?;
        if self.deliver(index, at).await? {
            self.complete(index, at).await?;
        }
        Ok(self.videos[index].id.clone())
    }

    async fn open(&mut self, index: usize, fixture: Fixture) -> Result<Option<usize>, Failure> {
        let video = self.videos[index].id.clone();
        let call = Call::new("open", Method::POST, format!("/api/v1/videos/{video}/uploads"), &video)
            .body(json!({"size_bytes": fixture.bytes.len()}))
            .key(self.next_key());
        let answer = self.caller.persist(&call, |answer| Some(answer.text("id"))).await?;
        let refusals: &[u16] = if self.videos[index].trashed { &[404] } else { &[409] };
        if !self.expect(&call, &answer, 201, refusals) {
            return Ok(None);
        }
        self.remember(call, &answer);
        let (id, url) = (answer.text("id"), answer.text("upload_url"));
        let upload = UploadModel { id, fixture, url, received: false, completed: false, aborted: false };
        self.videos[index].uploads.push(upload);
        Ok(Some(self.videos[index].uploads.len() - 1))
    }

    /// Sends the bytes, now and then only half of them at first; `true` once they are acknowledged.
    async fn deliver(&mut self, index: usize, at: usize) -> Result<bool, Failure> {
        let UploadModel { id, url, fixture, .. } = self.videos[index].uploads[at].clone();
        let call = Call::new("put", Method::PUT, url, &id);
        let hash = hex::encode(vidcore::storage::objects::sha256(fixture.bytes));
        for _ in 0..DELIVERIES {
            let half = self.rng.u8(0..6) == 0;
            let body = if half { half_of(fixture.bytes) } else { reqwest::Body::from(fixture.bytes) };
            match self.caller.put(&call, body, |_| Some(hash.clone())).await {
                // An earlier delivery came through whose answer did not.
                Reply::Answer(answer) if answer.text("code") == "already_received" => {}
                Reply::Answer(_) if half => continue,
                Reply::Answer(answer) => {
                    let right = answer.status == 200 && answer.text("sha256") == hash;
                    self.findings.demand(right, || format!("bytes of {id}: {} {}", answer.status, answer.body));
                }
                Reply::Lost(_) | Reply::NotSent => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            }
            self.videos[index].uploads[at].received = true;
            return Ok(true);
        }
        Ok(false)
    }

    async fn complete(&mut self, index: usize, at: usize) -> Result<(), Failure> {
        let id = self.videos[index].uploads[at].id.clone();
        let call =
            Call::new("complete", Method::POST, format!("/api/v1/uploads/{id}/complete"), &id).key(self.next_key());
        let answer = self.caller.persist(&call, |_| None).await?;
        if self.expect(&call, &answer, 202, &[]) {
            self.videos[index].uploads[at].completed = true;
            self.remember(call, &answer);
        }
        Ok(())
    }

    async fn abort(&mut self, index: usize, at: usize) -> Result<(), Failure> {
        let id = self.videos[index].uploads[at].id.clone();
        let call = Call::new("abort", Method::DELETE, format!("/api/v1/uploads/{id}"), &id).key(self.next_key());
        let answer = self.caller.persist(&call, |_| None).await?;
        if self.expect(&call, &answer, 200, &[]) {
            self.videos[index].uploads[at].aborted = true;
            self.remember(call, &answer);
        }
        Ok(())
    }

    /// Changes the title, half of the times without a key: what is not answered then may stand or not.
    async fn patch(&mut self, index: usize) -> Result<(), Failure> {
        let video = self.videos[index].id.clone();
        let title = format!("Title {} of user {}", self.rng.u32(..), self.number);
        for _ in 0..PATCHES {
            let seen = self.caller.read(&format!("/api/v1/videos/{video}")).await?;
            if !self.found(&video, &seen) {
                return Ok(());
            }
            let mut call = Call::new("patch", Method::PATCH, format!("/api/v1/videos/{video}"), &video)
                .body(json!({"title": title}));
            call.if_match = seen.etag;
            let reply = match self.rng.bool() {
                true => self.caller.once(&call, |_| Some(title.clone())).await,
                false => {
                    let call = call.clone().key(self.next_key());
                    Reply::Answer(self.caller.persist(&call, |_| Some(title.clone())).await?)
                }
            };
            match reply {
                Reply::Answer(answer) if answer.status == 412 => continue,
                Reply::Answer(answer) => {
                    let refusals: &[u16] = if self.videos[index].trashed { &[404] } else { &[] };
                    if self.expect(&call, &answer, 200, refusals) {
                        self.videos[index].titles = [title].into();
                    }
                }
                Reply::Lost(_) => {
                    self.videos[index].titles.insert(title);
                }
                Reply::NotSent => {}
            }
            return Ok(());
        }
        Ok(())
    }

    async fn trash_or_restore(&mut self, index: usize) -> Result<(), Failure> {
        let (video, trashed) = (self.videos[index].id.clone(), self.videos[index].trashed);
        let call = if trashed {
            Call::new("restore", Method::POST, format!("/api/v1/videos/{video}/restore"), &video)
        } else {
            Call::new("trash", Method::DELETE, format!("/api/v1/videos/{video}"), &video)
        };
        let call = call.key(self.next_key());
        let answer = self.caller.persist(&call, |_| None).await?;
        // Restoring demands the version it has seen, a few times over.
        if self.expect(&call, &answer, 200, &[412]) {
            self.videos[index].trashed = !trashed;
            self.remember(call, &answer);
        }
        Ok(())
    }

    async fn process(&mut self, index: usize) -> Result<(), Failure> {
        let video = self.videos[index].id.clone();
        let call =
            Call::new("process", Method::POST, format!("/api/v1/videos/{video}/process"), &video).key(self.next_key());
        let answer = self.caller.persist(&call, |_| None).await?;
        // A draft has nothing to process, and neither has a video whose only file is still verified.
        self.expect(&call, &answer, 202, if self.videos[index].trashed { &[404] } else { &[409] });
        Ok(())
    }

    /// Cancels a job of the video that is under way.
    async fn cancel(&mut self, index: usize) -> Result<(), Failure> {
        let video = self.videos[index].id.clone();
        let jobs = self.caller.read(&format!("/api/v1/jobs?video_id={video}&limit=5")).await?;
        let items = jobs.body["items"].as_array().cloned().unwrap_or_default();
        let live = items.iter().find(|job| job["state"] == "queued" || job["state"] == "leased");
        let Some(job) = live.and_then(|job| job["id"].as_str()) else { return Ok(()) };
        let call = Call::new("cancel", Method::POST, format!("/api/v1/jobs/{job}/cancel"), job).key(self.next_key());
        self.videos[index].may_be_cancelled = true;
        let answer = self.caller.persist(&call, |_| None).await?;
        self.expect(&call, &answer, 202, &[409]);
        Ok(())
    }

    /// Looks at the video and tells the ledger what is published.
    async fn look(&mut self, index: usize) -> Result<(), Failure> {
        let video = self.videos[index].id.clone();
        let status = self.caller.read(&format!("/api/v1/videos/{video}/status")).await?;
        if self.found(&video, &status) {
            self.ledger.seen(&video, &status.body["renditions"], &self.findings);
        }
        Ok(())
    }

    fn found(&self, video: &str, answer: &Answer) -> bool {
        self.findings.demand(answer.status == 200, || {
            format!("{video} was acknowledged and is answered with {} {}", answer.status, answer.body)
        });
        answer.status == 200
    }

    /// `true` for success; anything that is neither that nor one of the refusals is a finding.
    fn expect(&self, call: &Call, answer: &Answer, success: u16, refusals: &[u16]) -> bool {
        let known = answer.status == success || refusals.contains(&answer.status);
        self.findings.demand(known, || {
            format!("{} of {} was answered with {} {}", call.name, call.subject, answer.status, answer.body)
        });
        answer.status == success
    }
}

/// A body that ends well before the bytes do, as when a connection breaks.
fn half_of(bytes: &'static [u8]) -> reqwest::Body {
    let half = Bytes::from_static(&bytes[..bytes.len() / 2]);
    let broken = Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    reqwest::Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(half), broken]))
}
