//! The ring: snapshots of live keys, kept up to date with their files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::clock::Clock;
use crate::entropy::{Entropy, EntropyExt};
use crate::keys::file::{self, Stamp};
use crate::keys::{BadSeal, KeyError, KeyId, LiveKey, LiveKeys, Purpose};

/// How often, at most, a file is looked at for another process's rotation.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How old a key must be before it signs, unless there is no other: twice the time in which every
/// process of the platform has read it, so that none meets a signature of a key it does not know.
pub const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The shortest truncated MAC that is ever accepted, in bytes.
const MIN_MAC_LEN: usize = 16;

/// Every live key of the platform, by purpose. Clones share one ring.
///
/// Reading takes an `Arc` of a snapshot. At most once a second per purpose a reader also looks at
/// the file's metadata (one `stat`), and reads it anew if another process rotated the key; if that
/// fails, the keys known so far stay in use and the failure is logged.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    dir: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    slots: [Slot; Purpose::ALL.len()],
}

struct Slot {
    keys: RwLock<Arc<LiveKeys>>,
    /// The state of the file the snapshot was read from; `None` in memory.
    stamp: Mutex<Option<Stamp>>,
    /// When the file is looked at next, in milliseconds of the monotonic clock.
    check_at_ms: AtomicU64,
}

impl KeyRing {
    /// Opens the keys in `dir`, making the folder (0700) and any missing file (0600). Processes that
    /// start together on one folder end up with the same keys. Blocks on the file system.
    ///
    /// # Errors
    /// Every variant of [`KeyError`]: a key that others can read, or that is malformed or weak, is
    /// refused rather than replaced.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, KeyError> {
        file::open_dir(dir)?;
        let mut slots = Vec::with_capacity(Purpose::ALL.len());
        for purpose in Purpose::ALL {
            let (keys, stamp) = open_file(dir, purpose, &*clock, &*entropy)?;
            slots.push(Slot::new(keys, Some(stamp), next_check(&*clock)));
        }
        Ok(Self::over(Some(dir.to_owned()), clock, entropy, slots))
    }

    /// Fresh keys in memory alone; what they signed dies with the process. For tests and embedders
    /// that keep nothing.
    pub fn ephemeral(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let slots = Purpose::ALL.map(|purpose| {
            let key = LiveKey::generate(purpose, clock.now(), &*entropy);
            Slot::new(LiveKeys::new(vec![key]), None, u64::MAX)
        });
        Self::over(None, clock, entropy, slots.into())
    }

    fn over(dir: Option<PathBuf>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, slots: Vec<Slot>) -> Self {
        let slots = slots.try_into().map_err(|_| ()).expect("one slot was made per purpose");
        Self { inner: Arc::new(Inner { dir, clock, entropy, slots }) }
    }

    /// The live keys of `purpose`, newest first.
    pub fn live(&self, purpose: Purpose) -> Arc<LiveKeys> {
        let slot = self.slot(purpose);
        if let Some(dir) = &self.inner.dir
            && slot.is_check_due(self.inner.clock.monotonic())
        {
            slot.refresh(&file::path_of(dir, purpose), purpose);
        }
        slot.snapshot()
    }

    /// Puts a new key in front, keeps the one before it and drops any older. It verifies at once here
    /// and within a second in every other process on the folder, and signs once [`SETTLE_TIME`] has
    /// passed. Blocks on the file system.
    ///
    /// # Errors
    /// As for [`open`](Self::open); the keys then are as they were.
    pub fn rotate(&self, purpose: Purpose) -> Result<KeyId, KeyError> {
        let slot = self.slot(purpose);
        let Some(dir) = &self.inner.dir else {
            // Held over the whole change, so that two rotations follow one another.
            let _turn = slot.stamp.lock().unwrap_or_else(PoisonError::into_inner);
            let (keys, id) = self.successor(purpose, &slot.snapshot());
            slot.put(keys);
            return Ok(id);
        };
        let _turn = file::lock(dir)?;
        let path = file::path_of(dir, purpose);
        let (current, _) = open_file(dir, purpose, &*self.inner.clock, &*self.inner.entropy)?;
        let (keys, id) = self.successor(purpose, &current);
        file::replace(&path, &keys, &*self.inner.entropy)?;
        slot.refresh(&path, purpose);
        Ok(id)
    }

    /// HMAC-SHA-256 over `parts`, each preceded by its length, and the id of the key that made it.
    pub fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> (KeyId, [u8; 32]) {
        let keys = self.live(purpose);
        let key = keys.signing(self.inner.clock.now());
        (key.id(), key.mac(parts))
    }

    /// The MAC of `parts` under the oldest live key: unlike [`mac`](Self::mac), one rotation does not
    /// change it. For values that are compared with ones made before, such as request fingerprints.
    pub fn fingerprint(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        let keys = self.live(purpose);
        let oldest = keys.iter().last().expect("every purpose has a live key");
        oldest.mac(parts)
    }

    /// Whether `tag`, 16 to 32 bytes, is the beginning of the MAC of `parts` under the live key `id`.
    /// Compares in constant time; a key that is not live any more verifies nothing.
    pub fn verify_mac(&self, purpose: Purpose, id: KeyId, parts: &[&[u8]], tag: &[u8]) -> bool {
        let keys = self.live(purpose);
        let Some(key) = keys.find(id) else { return false };
        let expected = key.mac(parts);
        tag.len() >= MIN_MAC_LEN
            && expected.get(..tag.len()).is_some_and(|prefix| verify_slices_are_equal(prefix, tag).is_ok())
    }

    /// Seals `plaintext` with AES-256-GCM under a random 96-bit nonce, bound to `aad`.
    ///
    /// The result is key id (4 bytes), nonce (12), ciphertext and tag (16): 32 bytes more than came in.
    pub fn seal(&self, purpose: Purpose, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let keys = self.live(purpose);
        keys.signing(self.inner.clock.now()).seal(self.inner.entropy.bytes(), aad, plaintext)
    }

    /// Opens what [`seal`](Self::seal) made for the same purpose and `aad`.
    ///
    /// # Errors
    /// [`BadSeal`] if a byte of it or of `aad` differs, or its key is not live any more.
    pub fn open_sealed(&self, purpose: Purpose, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, BadSeal> {
        let (id, rest) = sealed.split_first_chunk::<{ KeyId::LEN }>().ok_or(BadSeal)?;
        let keys = self.live(purpose);
        keys.find(KeyId::from_bytes(*id)).ok_or(BadSeal)?.open(aad, rest)
    }

    fn slot(&self, purpose: Purpose) -> &Slot {
        &self.inner.slots[purpose as usize]
    }

    /// A new key in front of the newest of `current`.
    fn successor(&self, purpose: Purpose, current: &LiveKeys) -> (LiveKeys, KeyId) {
        let previous = current.iter().next().expect("a ring has at least one key per purpose");
        let mut fresh = LiveKey::generate(purpose, self.inner.clock.now(), &*self.inner.entropy);
        while fresh.id() == previous.id() {
            fresh = LiveKey::generate(purpose, self.inner.clock.now(), &*self.inner.entropy);
        }
        let id = fresh.id();
        (LiveKeys::new(vec![fresh, previous.duplicate(purpose)]), id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.inner.slots.iter().map(|slot| slot.snapshot().iter().map(LiveKey::id).collect::<Vec<_>>());
        f.debug_struct("KeyRing")
            .field("dir", &self.inner.dir)
            .field("keys", &Purpose::ALL.into_iter().zip(ids).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn new(keys: LiveKeys, stamp: Option<Stamp>, check_at_ms: u64) -> Self {
        Self { keys: RwLock::new(Arc::new(keys)), stamp: Mutex::new(stamp), check_at_ms: check_at_ms.into() }
    }

    fn snapshot(&self) -> Arc<LiveKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, keys: LiveKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Whether this caller is the one to look at the file: one per [`CHECK_EVERY`] is.
    fn is_check_due(&self, now: Duration) -> bool {
        let now_ms = as_millis(now);
        let due = self.check_at_ms.load(Ordering::Relaxed);
        let next = now_ms + as_millis(CHECK_EVERY);
        now_ms >= due && self.check_at_ms.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Reads the file anew if it is not the one the snapshot came from.
    fn refresh(&self, path: &Path, purpose: Purpose) {
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let news =
            file::stamp(path).and_then(|now| if Some(now) == *known { Ok(None) } else { file::read(path, purpose) });
        match news {
            Ok(Some((keys, stamp))) => {
                *known = Some(stamp);
                self.put(keys);
            }
            Ok(None) => {}
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(purpose = %purpose, error, "{purpose} keys cannot be read again; the known ones stay in use");
            }
        }
    }
}

/// Reads the file of `purpose`, making it first if it is missing.
fn open_file(
    dir: &Path,
    purpose: Purpose,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<(LiveKeys, Stamp), KeyError> {
    let path = file::path_of(dir, purpose);
    if let Some(found) = file::read(&path, purpose)? {
        return Ok(found);
    }
    let fresh = LiveKeys::new(vec![LiveKey::generate(purpose, clock.now(), entropy)]);
    // Whoever links first decides; winner and loser alike read what is in place.
    file::create(&path, &fresh, entropy)?;
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    file::read(&path, purpose)?.ok_or_else(|| KeyError::Io { action: "read", path, source: gone() })
}

fn next_check(clock: &dyn Clock) -> u64 {
    as_millis(clock.monotonic() + CHECK_EVERY)
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
