//! One upload of the campaign, with everything that goes wrong on its way.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use vidcore::storage::objects::sha256;

use crate::log_uniform;
use crate::resumable::account::Account;
use crate::resumable::file::video;
use crate::resumable::tus::Answer;

/// More tries than any upload needs.
const TRIES: u32 = 2000;

/// The most bytes under one checksum: they count together or not at all.
const CHECKED: f64 = 18.0;

/// What becomes of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Alone,
    /// Two clients send the same file to the same URL.
    Raced,
    /// Given up once so many bytes are there.
    GivenUp(u64),
}

/// An upload to be made.
#[derive(Clone)]
pub(crate) struct Uploading {
    account: Account,
    server: SocketAddr,
    upload: String,
    bytes: std::sync::Arc<Vec<u8>>,
    plan: Plan,
    rng: Rng,
}

/// How it ended, as its client knows.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) upload: String,
    pub(crate) sha256: [u8; 32],
    pub(crate) was_given_up: bool,
    /// Requests whose connection was cut.
    pub(crate) cut: u32,
    /// Wrong checksums that were found.
    pub(crate) refused: u32,
    /// Requests that another one was ahead of.
    pub(crate) raced: u32,
}

impl Uploading {
    pub(crate) fn new(account: Account, server: SocketAddr, upload: String, size: usize, mut rng: Rng) -> Self {
        let plan = match rng.u8(..10) {
            0 => Plan::GivenUp(rng.u64(..size as u64 / 2)),
            1..4 => Plan::Raced,
            _ => Plan::Alone,
        };
        let bytes = std::sync::Arc::new(video(size, rng.u64(..)));
        Self { account, server, upload, bytes, plan, rng }
    }

    pub(crate) async fn run(self) -> End {
        let mut ends = Vec::new();
        let mut rival = Self { rng: Rng::with_seed(self.rng.get_seed() ^ 1), ..self.clone() };
        let mut first = self;
        if first.plan == Plan::Raced {
            let (a, b) = tokio::join!(first.send(), rival.send());
            ends.extend([a, b]);
        } else {
            ends.push(first.send().await);
        }
        let sum = |of: fn(&End) -> u32| ends.iter().map(of).sum();
        End {
            sha256: sha256(&first.bytes),
            was_given_up: matches!(first.plan, Plan::GivenUp(_)),
            cut: sum(|end| end.cut),
            refused: sum(|end| end.refused),
            raced: sum(|end| end.raced),
            upload: first.upload,
        }
    }

    /// Sends until all is there, or the upload is given up.
    async fn send(&mut self) -> End {
        let mut end = End::default();
        let mut told = 0;
        for _ in 0..TRIES {
            let Some(answer) = self.account.ask(self.server, &self.upload).await else {
                end.cut += 1;
                continue;
            };
            if answer.status == 410 && matches!(self.plan, Plan::GivenUp(_)) {
                return end;
            }
            let offset = answer.offset.unwrap_or_else(|| panic!("{answer:?}"));
            assert!(offset >= told, "the offset went back from {told} to {offset}");
            told = offset;
            match self.plan {
                _ if offset == self.bytes.len() as u64 => return end,
                Plan::GivenUp(at) if offset >= at => self.give_up(&mut end).await,
                _ => self.append(offset, &mut end).await,
            }
        }
        panic!("{} does not end", self.upload);
    }

    async fn give_up(&mut self, end: &mut End) {
        match self.account.terminate(self.server, &self.upload).await {
            // The answer to the first request may have been lost.
            Some(Answer { status: 204 | 409, .. }) => {}
            Some(answer) => panic!("{answer:?}"),
            None => end.cut += 1,
        }
    }

    async fn append(&mut self, offset: u64, end: &mut End) {
        let rest = &self.bytes[offset as usize..];
        let (is_checked, is_wrong) = (self.rng.u8(..4) == 0, self.rng.u8(..3) == 0);
        let most = if is_checked { CHECKED } else { 27.0 };
        // One that is to be given up is not to be over before.
        let rest = if matches!(self.plan, Plan::GivenUp(_)) { &rest[..rest.len().div_ceil(4)] } else { rest };
        let piece = &rest[..rest.len().min(log_uniform(&mut self.rng, 10.0, most) as usize)];
        let checksum = checksum(piece, is_wrong);
        let headers = [("upload-checksum", &*checksum)];
        let headers = if is_checked { &headers[..] } else { &[] };
        let answer = self.account.append(self.server, &self.upload, offset, piece, headers).await;
        match answer.map(|answer| (answer.status, answer.offset)) {
            Some((204, now)) => {
                assert!(!(is_checked && is_wrong), "a wrong checksum was not found");
                assert_eq!(Some(offset + piece.len() as u64), now);
            }
            Some((460, _)) if is_checked && is_wrong => end.refused += 1,
            Some((409 | 423, _)) if self.plan == Plan::Raced => end.raced += 1,
            // A request of this client's own that was cut off may still be at its end.
            Some((409 | 423, _)) => {}
            Some(answer) => panic!("{answer:?}"),
            None => end.cut += 1,
        }
    }
}

/// `Upload-Checksum` of bytes, or of others.
fn checksum(bytes: &[u8], is_wrong: bool) -> String {
    let mut hash = sha256(bytes);
    hash[0] ^= u8::from(is_wrong);
    format!("sha256 {}", STANDARD.encode(hash))
}
