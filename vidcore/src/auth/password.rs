//! Passwords as argon2id hashes in PHC string format.
//!
//! The cost is that of the OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane. A run
//! takes tens of milliseconds of a core, so runs are counted by permits, happen on threads that may
//! block, and wait in a bounded queue. The memory of a run is kept for the next one: blocks of 19 MiB
//! that come and go on many threads stay with the allocator, and the process grew by each of them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::entropy::{Entropy, EntropyExt};

/// Memory of one run in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Bytes of salt (PHC string format: 16 is ample).
const SALT_LEN: usize = 16;

/// Bytes of the hash itself.
const OUTPUT_LEN: usize = 32;

/// Callers that may wait for each permit; at 50 ms a run the last of them waits about three seconds.
const WAITERS_PER_PERMIT: usize = 64;

/// A hash of nothing in particular, for accounts that do not exist: same parameters, same work.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$\
                      FjgN0oQbfGuV2mUfS0cYBzyNwHcTKmEf3qI9bJvNs4g";

/// Why a password was neither hashed nor checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Too many callers wait already; trying again a little later is safe.
    #[error("too many passwords wait to be hashed")]
    Busy,
    /// The stored hash is not a PHC string of argon2, or hashing failed: a defect, not an outcome.
    #[error("a password hash cannot be computed or understood")]
    Defect,
}

/// Hashes and checks passwords, a few at a time. Clones share the permits.
///
/// # Cancel safety
/// A run that has begun goes on and keeps its permit whatever becomes of the future that asked for
/// it, so dropped callers cannot start more runs than there are permits.
#[derive(Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    /// One ticket for each caller that runs or waits.
    queue: Arc<Semaphore>,
    areas: Arc<Areas>,
    entropy: Arc<dyn Entropy>,
    verifications: Arc<AtomicU64>,
}

/// Memory areas of runs that have ended; never more than there are permits.
#[derive(Default)]
struct Areas(Mutex<Vec<Vec<Block>>>);

impl Areas {
    /// Runs `work` in an area of at least `blocks` blocks of 1 KiB.
    fn within<T>(&self, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let mut area = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        if area.len() < blocks {
            area.resize(blocks, Block::new());
        }
        let outcome = work(&mut area);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(area);
        outcome
    }
}

impl Passwords {
    /// At most `permits` runs at once; 0 means one less than there are cores, at least 1.
    pub fn new(permits: usize, entropy: Arc<dyn Entropy>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let permits = if permits == 0 { cores.saturating_sub(1).max(1) } else { permits };
        let callers = permits.saturating_mul(1 + WAITERS_PER_PERMIT).min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            queue: Arc::new(Semaphore::new(callers)),
            areas: Arc::default(),
            entropy,
            verifications: Arc::default(),
        }
    }

    /// The hash of `password` with a fresh salt, as a PHC string.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] when 64 callers per permit wait already.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        let salt: [u8; SALT_LEN] = self.entropy.bytes();
        let areas = Arc::clone(&self.areas);
        self.run(move || hash(&areas, &password, &salt).ok_or(PasswordError::Defect)).await
    }

    /// Whether `password` is the one that `hash` was made of. `None` stands for an account that does
    /// not exist: the same work is done, and the answer is `false`.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] as for [`hash`](Self::hash); [`PasswordError::Defect`] if `hash` is
    /// not a PHC string of argon2.
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, PasswordError> {
        let (areas, verifications) = (Arc::clone(&self.areas), Arc::clone(&self.verifications));
        self.run(move || {
            let exists = hash.is_some();
            let matches = verify(&areas, &password, hash.as_deref().unwrap_or(NOBODY)).ok_or(PasswordError::Defect)?;
            verifications.fetch_add(1, Ordering::Relaxed);
            Ok(exists && matches)
        })
        .await
    }

    /// How many checks were carried out so far, those for accounts that do not exist included.
    pub fn verifications(&self) -> u64 {
        self.verifications.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let Ok(ticket) = Arc::clone(&self.queue).try_acquire_owned() else {
            metrics::counter!("vid_password_runs_refused_total").increment(1);
            return Err(PasswordError::Busy);
        };
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (ticket, permit);
        let run = tokio::task::spawn_blocking(move || {
            let _held = held;
            work()
        });
        metrics::counter!("vid_password_runs_total").increment(1);
        run.await.unwrap_or(Err(PasswordError::Defect))
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords")
            .field("free_permits", &self.permits.available_permits())
            .field("verifications", &self.verifications())
            .finish_non_exhaustive()
    }
}

fn parameters() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_LEN)).expect("the parameters are within argon2's ranges")
}

/// One run of argon2id; `None` if the salt or the length of `output` is not acceptable to it.
fn run(areas: &Areas, params: Params, password: &SecretString, salt: &[u8], output: &mut [u8]) -> Option<()> {
    let blocks = params.block_count();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let password = password.expose_secret().as_bytes();
    areas.within(blocks, |area| argon2.hash_password_into_with_memory(password, salt, output, area)).ok()
}

fn hash(areas: &Areas, password: &SecretString, salt: &[u8]) -> Option<String> {
    let (params, mut output) = (parameters(), [0; OUTPUT_LEN]);
    run(areas, params.clone(), password, salt, &mut output)?;
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).ok()?,
        salt: Some(Salt::new(salt).ok()?),
        hash: Some(Output::new(&output).ok()?),
    };
    Some(hash.to_string())
}

/// Whether the password fits; `None` if `hash` is not one that this module makes, whatever its cost.
fn verify(areas: &Areas, password: &SecretString, hash: &str) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    if hash.algorithm != ARGON2ID_IDENT || hash.version != Some(Version::V0x13.into()) {
        return None;
    }
    let (salt, expected) = (hash.salt?, hash.hash?);
    let mut output = vec![0; expected.len()];
    run(areas, Params::try_from(&hash).ok()?, password, salt.as_ref(), &mut output)?;
    Some(verify_slices_are_equal(&output, expected.as_ref()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    fn passwords(permits: usize) -> Passwords {
        Passwords::new(permits, Arc::new(SystemEntropy))
    }

    #[tokio::test]
    async fn a_hash_fits_its_own_password_and_no_other() {
        let passwords = passwords(1);
        let hash = passwords.hash("correct horse battery".into()).await.expect("it is hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(Ok(true), passwords.verify("correct horse battery".into(), Some(hash.clone())).await);
        assert_eq!(Ok(false), passwords.verify("correct horse batterz".into(), Some(hash)).await);
    }

    #[tokio::test]
    async fn the_memory_of_a_run_serves_the_next_one() {
        let passwords = passwords(1);
        for _ in 0..3 {
            passwords.hash("anything at all".into()).await.expect("it is hashed");
        }
        let kept = passwords.areas.0.lock().expect("not poisoned");
        assert_eq!(vec![MEMORY_KIB as usize], kept.iter().map(Vec::len).collect::<Vec<_>>());
    }

    /// Made by the argon2 crate's own one-shot function for this password and salt.
    #[tokio::test]
    async fn a_hash_made_elsewhere_is_understood() {
        use argon2::password_hash::PasswordHasher;

        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters());
        let made: PasswordHash =
            argon2.hash_password_with_salt(b"made elsewhere", &[7; SALT_LEN]).expect("it is hashed");
        let passwords = passwords(1);
        assert_eq!(Ok(true), passwords.verify("made elsewhere".into(), Some(made.to_string())).await);
        assert_eq!(Ok(false), passwords.verify("made otherwise".into(), Some(made.to_string())).await);
        assert_eq!(made.to_string(), hash(&passwords.areas, &"made elsewhere".into(), &[7; SALT_LEN]).expect("a hash"));
    }

    #[tokio::test]
    async fn equal_passwords_have_different_hashes() {
        let passwords = passwords(1);
        let first = passwords.hash("the same words".into()).await;
        assert_ne!(first, passwords.hash("the same words".into()).await);
    }

    #[tokio::test]
    async fn nobody_has_the_parameters_of_a_real_hash_and_no_password() {
        let passwords = passwords(1);
        let real = passwords.hash("anything at all".into()).await.expect("it is hashed");
        let shape = |phc: &str| {
            let parsed = PasswordHash::new(phc).expect("a PHC string");
            let lens = (parsed.salt.map(|s| s.len()), parsed.hash.map(|h| h.len()));
            (parsed.algorithm.to_string(), parsed.version, parsed.params.to_string(), lens)
        };
        assert_eq!(shape(&real), shape(NOBODY));
        assert_eq!(Ok(false), passwords.verify("anything at all".into(), None).await);
        assert_eq!(1, passwords.verifications());
    }

    #[tokio::test]
    async fn a_stored_hash_that_is_none_is_a_defect() {
        let outcome = passwords(1).verify("anything at all".into(), Some("plain text".to_owned())).await;
        assert_eq!(Err(PasswordError::Defect), outcome);
    }

    #[tokio::test]
    async fn the_caller_after_the_last_place_in_the_queue_is_refused() {
        let passwords = passwords(1);
        let places = Arc::clone(&passwords.queue);
        let all_but_one = places.try_acquire_many(WAITERS_PER_PERMIT as u32).expect("nobody waits yet");
        assert!(passwords.verify("anything at all".into(), None).await.is_ok());
        let last = places.try_acquire().expect("one place is left");
        assert_eq!(Err(PasswordError::Busy), passwords.verify("anything at all".into(), None).await);
        drop((all_but_one, last));
        assert!(passwords.verify("anything at all".into(), None).await.is_ok());
    }
}
