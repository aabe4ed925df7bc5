//! The key ring on disk: creation, rotation, what is refused, and what keys are good for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use proptest::prelude::*;
use vidcore::clock::ManualClock;
use vidcore::entropy::SystemEntropy;
use vidcore::keys::{BadSeal, KeyError, KeyId, KeyRing, LiveKey, Purpose, SETTLE_TIME};

struct Folder {
    temp: tempfile::TempDir,
    clock: ManualClock,
}

impl Folder {
    fn new() -> Self {
        Self { temp: tempfile::tempdir().expect("a temporary folder"), clock: ManualClock::default() }
    }

    fn dir(&self) -> PathBuf {
        self.temp.path().join("keys")
    }

    fn file(&self, purpose: Purpose) -> PathBuf {
        self.dir().join(format!("{purpose}.json"))
    }

    fn try_open(&self) -> Result<KeyRing, KeyError> {
        KeyRing::open(&self.dir(), Arc::new(self.clock.clone()), Arc::new(SystemEntropy))
    }

    fn open(&self) -> KeyRing {
        self.try_open().expect("the ring opens")
    }

    /// Opens a ring over a cursor file with this text, and returns why that was refused.
    fn refusal_of(&self, text: &str) -> KeyError {
        self.open();
        fs::write(self.file(Purpose::Cursor), text).expect("the file is written");
        self.try_open().expect_err("the ring is refused")
    }
}

fn ephemeral() -> KeyRing {
    KeyRing::ephemeral(Arc::new(ManualClock::default()), Arc::new(SystemEntropy))
}

fn ids(ring: &KeyRing, purpose: Purpose) -> Vec<KeyId> {
    ring.live(purpose).iter().map(LiveKey::id).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

#[test]
fn a_missing_folder_is_filled_with_files_only_their_owner_can_read() {
    let folder = Folder::new();
    folder.open();
    assert_eq!(0o700, mode(&folder.dir()));
    for purpose in Purpose::ALL {
        assert_eq!(0o600, mode(&folder.file(purpose)), "{purpose}");
    }
    let names: Vec<_> =
        fs::read_dir(folder.dir()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(Purpose::ALL.len(), names.len(), "nothing written aside is left over: {names:?}");
}

#[test]
fn a_reopened_ring_verifies_what_the_first_one_made() {
    let folder = Folder::new();
    let first = folder.open();
    let (id, mac) = first.mac(Purpose::Playback, &[b"video"]);
    let sealed = first.seal(Purpose::Idempotency, b"aad", b"secret");
    let again = folder.open();
    assert!(again.verify_mac(Purpose::Playback, id, &[b"video"], &mac));
    assert_eq!(Ok(b"secret".to_vec()), again.open_sealed(Purpose::Idempotency, b"aad", &sealed));
}

#[test]
fn rings_opened_together_on_an_empty_folder_agree() {
    let folder = Folder::new();
    let barrier = Barrier::new(8);
    let rings: Vec<KeyRing> = std::thread::scope(|scope| {
        let open = || {
            barrier.wait();
            folder.open()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for purpose in Purpose::ALL {
        for ring in &rings {
            assert_eq!(ids(&rings[0], purpose), ids(ring, purpose), "{purpose}");
        }
    }
}

#[test]
fn two_rotations_end_what_a_key_signed_and_one_does_not() {
    let folder = Folder::new();
    let ring = folder.open();
    let (id, mac) = ring.mac(Purpose::Cursor, &[b"page"]);
    let second = ring.rotate(Purpose::Cursor).expect("rotates");
    assert_eq!(vec![second, id], ids(&ring, Purpose::Cursor));
    assert!(ring.verify_mac(Purpose::Cursor, id, &[b"page"], &mac));
    let third = ring.rotate(Purpose::Cursor).expect("rotates");
    assert_eq!(vec![third, second], ids(&ring, Purpose::Cursor));
    assert!(!ring.verify_mac(Purpose::Cursor, id, &[b"page"], &mac));
    assert_eq!(0o600, mode(&folder.file(Purpose::Cursor)));
}

#[test]
fn rotating_one_purpose_leaves_the_others_alone() {
    let ring = ephemeral();
    let before = ids(&ring, Purpose::Playback);
    ring.rotate(Purpose::Cursor).expect("rotates");
    assert_eq!(before, ids(&ring, Purpose::Playback));
    assert_eq!(2, ids(&ring, Purpose::Cursor).len());
}

#[test]
fn a_rotated_key_signs_only_once_every_process_can_know_it() {
    let folder = Folder::new();
    let ring = folder.open();
    let (old, _) = ring.mac(Purpose::Playback, &[]);
    folder.clock.advance(Duration::from_secs(60));
    let new = ring.rotate(Purpose::Playback).expect("rotates");
    folder.clock.advance(SETTLE_TIME - Duration::from_millis(1));
    assert_eq!(old, ring.mac(Purpose::Playback, &[]).0);
    folder.clock.advance(Duration::from_millis(1));
    assert_eq!(new, ring.mac(Purpose::Playback, &[]).0);
}

#[test]
fn a_running_ring_reads_another_process_rotation_within_a_second() {
    let folder = Folder::new();
    let (ring, other) = (folder.open(), folder.open());
    let new = other.rotate(Purpose::Jwt).expect("rotates");
    folder.clock.advance(Duration::from_millis(999));
    assert!(!ids(&ring, Purpose::Jwt).contains(&new), "the file is not looked at more than once a second");
    folder.clock.advance(Duration::from_millis(1));
    assert_eq!(ids(&other, Purpose::Jwt), ids(&ring, Purpose::Jwt));
    assert_eq!(Some(&new), ids(&ring, Purpose::Jwt).first());
}

#[test]
fn a_file_broken_while_running_leaves_the_known_keys_in_use() {
    let folder = Folder::new();
    let ring = folder.open();
    let known = ids(&ring, Purpose::Cursor);
    fs::write(folder.file(Purpose::Cursor), "[]").expect("written");
    folder.clock.advance(Duration::from_secs(2));
    assert_eq!(known, ids(&ring, Purpose::Cursor));
}

#[test]
fn rotations_at_once_each_stand_after_the_other() {
    let folder = Folder::new();
    let (a, b) = (folder.open(), folder.open());
    let (first, second) = std::thread::scope(|scope| {
        let one = scope.spawn(|| a.rotate(Purpose::Cursor).expect("rotates"));
        let two = scope.spawn(|| b.rotate(Purpose::Cursor).expect("rotates"));
        (one.join().expect("no panic"), two.join().expect("no panic"))
    });
    let live = ids(&folder.open(), Purpose::Cursor);
    assert!(live == [first, second] || live == [second, first], "{live:?}");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    for bits in [0o640, 0o604, 0o660] {
        let folder = Folder::new();
        folder.open();
        fs::set_permissions(folder.file(Purpose::Jwt), fs::Permissions::from_mode(bits)).expect("set");
        let refused = folder.try_open().expect_err("the ring is refused");
        assert!(matches!(&refused, KeyError::Exposed { mode, .. } if *mode == bits), "{refused}");
    }
}

#[test]
fn a_folder_that_others_can_enter_is_refused() {
    let folder = Folder::new();
    folder.open();
    fs::set_permissions(folder.dir(), fs::Permissions::from_mode(0o750)).expect("set");
    assert!(matches!(folder.try_open(), Err(KeyError::Exposed { mode: 0o750, .. })));
}

#[test]
fn a_file_that_is_not_a_key_list_is_refused_without_quoting_it() {
    for text in ["", "{}", "[]", "null", "[1]", r#"[{"kid":"00000001"}]"#, r#""s3cr3t""#, r#"[{"secret":"s3cr3t"}]"#] {
        let refused = Folder::new().refusal_of(text);
        assert!(matches!(refused, KeyError::Malformed { .. }), "{text}: {refused}");
        assert!(!format!("{refused} {refused:?}").contains("s3cr3t"));
    }
}

#[test]
fn a_short_or_constant_secret_is_refused() {
    let constant = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    for secret in ["", "AAECAwQFBgc=", constant] {
        let refused = Folder::new().refusal_of(&list(&["00000001"], secret));
        assert!(matches!(refused, KeyError::Weak { .. }), "{secret}: {refused}");
    }
}

#[test]
fn more_than_two_keys_or_two_of_one_name_are_refused() {
    let good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for kids in [&["00000001", "00000002", "00000003"][..], &["00000001", "00000001"]] {
        let refused = Folder::new().refusal_of(&list(kids, good));
        assert!(matches!(refused, KeyError::Malformed { .. }), "{refused}");
    }
}

fn list(kids: &[&str], secret: &str) -> String {
    let entry =
        |kid: &&str| format!(r#"{{"kid":"{kid}","created_at":"2026-01-01T00:00:00.000Z","secret":"{secret}"}}"#);
    format!("[{}]", kids.iter().map(entry).collect::<Vec<_>>().join(","))
}

#[test]
fn a_jwt_key_is_an_ed25519_key_in_pkcs8() {
    use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
    let keys = Folder::new().open().live(Purpose::Jwt);
    let key = keys.iter().next().expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(key.expose_secret()).expect("PKCS#8");
    let signature = pair.sign(b"message");
    let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    public.verify(b"message", signature.as_ref()).expect("verifies");
}

#[test]
fn debug_shows_no_secret() {
    let ring = ephemeral();
    let keys = ring.live(Purpose::Cursor);
    let shown = format!("{ring:?} {keys:?}");
    let secret = keys.iter().next().expect("a key").expose_secret().to_vec();
    let listed = format!("{:?}", &secret[..4]);
    let hexed: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!shown.contains(listed.trim_matches(['[', ']'])) && !shown.contains(&hexed[..8]), "{shown}");
}

#[test]
fn a_key_of_one_purpose_does_not_serve_another() {
    let folder = Folder::new();
    folder.open();
    // The same secret under two purposes still yields two keys.
    fs::copy(folder.file(Purpose::Cursor), folder.file(Purpose::Playback)).expect("copied");
    let ring = folder.open();
    let (id, mac) = ring.mac(Purpose::Cursor, &[b"x"]);
    assert!(ring.verify_mac(Purpose::Cursor, id, &[b"x"], &mac));
    assert!(!ring.verify_mac(Purpose::Playback, id, &[b"x"], &mac));
    let sealed = ring.seal(Purpose::Cursor, b"", b"x");
    assert_eq!(Err(BadSeal), ring.open_sealed(Purpose::Playback, b"", &sealed));
}

#[test]
fn a_mac_binds_where_one_part_ends_and_the_next_begins() {
    let ring = ephemeral();
    let (id, mac) = ring.mac(Purpose::Cursor, &[b"ab", b"c"]);
    assert!(!ring.verify_mac(Purpose::Cursor, id, &[b"a", b"bc"], &mac));
    assert!(!ring.verify_mac(Purpose::Cursor, id, &[b"abc"], &mac));
}

#[test]
fn a_mac_cut_below_sixteen_bytes_is_refused() {
    let ring = ephemeral();
    let (id, mac) = ring.mac(Purpose::Cursor, &[b"x"]);
    assert!(ring.verify_mac(Purpose::Cursor, id, &[b"x"], &mac[..16]));
    assert!(!ring.verify_mac(Purpose::Cursor, id, &[b"x"], &mac[..15]));
    assert!(!ring.verify_mac(Purpose::Cursor, id, &[b"x"], &[]));
    assert!(!ring.verify_mac(Purpose::Cursor, id, &[b"x"], &[&mac[..], &[0]].concat()));
}

#[test]
fn sealing_twice_yields_different_bytes() {
    let ring = ephemeral();
    assert_ne!(ring.seal(Purpose::Idempotency, b"", b"x"), ring.seal(Purpose::Idempotency, b"", b"x"));
}

proptest! {
    #[test]
    fn a_seal_with_any_byte_changed_cannot_be_opened(
        plaintext in proptest::collection::vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let ring = ephemeral();
        let mut sealed = ring.seal(Purpose::Idempotency, b"aad", &plaintext);
        prop_assert_eq!(Ok(plaintext), ring.open_sealed(Purpose::Idempotency, b"aad", &sealed));
        prop_assert_eq!(Err(BadSeal), ring.open_sealed(Purpose::Idempotency, b"bad", &sealed));
        let at = at.index(sealed.len());
        sealed[at] ^= flip;
        prop_assert_eq!(Err(BadSeal), ring.open_sealed(Purpose::Idempotency, b"aad", &sealed));
    }

    #[test]
    fn bytes_from_anywhere_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
        prop_assert_eq!(Err(BadSeal), ephemeral().open_sealed(Purpose::Idempotency, b"", &bytes));
    }
}
