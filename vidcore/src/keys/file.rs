//! Key files: one JSON list per purpose, readable by its owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyExt};
use crate::keys::{KeyError, KeyId, LiveKey, LiveKeys, Purpose};

/// A key file is a few hundred bytes; anything larger is not one.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Permission bits that let others than the owner in.
const OTHERS: u32 = 0o077;

/// Tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    len: u64,
    // Every write is a rename, so a new state is a new inode even within one tick of the clock.
    inode: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    kid: KeyId,
    created_at: Timestamp,
    secret: String,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// Makes the folder (0700) if it is missing, and refuses one that others can enter.
pub(super) fn open_dir(dir: &Path) -> Result<(), KeyError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create", dir))?;
    let meta = fs::metadata(dir).map_err(io_error("look at", dir))?;
    refuse_exposed(dir, &meta)
}

/// The file of `purpose` in `dir`.
pub(super) fn path_of(dir: &Path, purpose: Purpose) -> PathBuf {
    dir.join(format!("{purpose}.json"))
}

/// What the file looks like now, without reading it.
pub(super) fn stamp(path: &Path) -> Result<Stamp, KeyError> {
    let meta = fs::metadata(path).map_err(io_error("look at", path))?;
    Ok(Stamp::of(&meta))
}

/// Reads and checks the keys in `path`; `None` if there is no such file.
pub(super) fn read(path: &Path, purpose: Purpose) -> Result<Option<(LiveKeys, Stamp)>, KeyError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    // The open file is looked at, not the path: a rename in between cannot mix two states.
    let meta = file.metadata().map_err(io_error("look at", path))?;
    refuse_exposed(path, &meta)?;
    if meta.len() > MAX_FILE_BYTES {
        return Err(malformed(path, "larger than any key file"));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize));
    (&mut file).take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(io_error("read", path))?;
    Ok(Some((parse(path, purpose, &text)?, Stamp::of(&meta))))
}

/// Writes `keys` beside `path` and links the file into place. `false` if another process was first;
/// its keys stand and ours are gone.
pub(super) fn create(path: &Path, keys: &LiveKeys, entropy: &dyn Entropy) -> Result<bool, KeyError> {
    let aside = write_aside(path, keys, entropy)?;
    let linked = match fs::hard_link(&aside, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error("link", path)(error)),
    };
    fs::remove_file(&aside).map_err(io_error("remove", &aside))?;
    sync_dir(path)?;
    linked
}

/// Puts `keys` in place of whatever `path` holds, in one step.
pub(super) fn replace(path: &Path, keys: &LiveKeys, entropy: &dyn Entropy) -> Result<(), KeyError> {
    let aside = write_aside(path, keys, entropy)?;
    if let Err(error) = fs::rename(&aside, path) {
        // The rename's error is the one to report, whether or not the leftover goes.
        let _ = fs::remove_file(&aside);
        return Err(io_error("replace", path)(error));
    }
    sync_dir(path)
}

/// Waits for, and holds until dropped, the right to change the files of `dir`, across processes.
pub(super) fn lock(dir: &Path) -> Result<File, KeyError> {
    let path = dir.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    file.lock().map_err(io_error("lock", &path))?;
    Ok(file)
}

impl Stamp {
    fn of(meta: &fs::Metadata) -> Self {
        Self { modified: (meta.mtime(), meta.mtime_nsec()), len: meta.len(), inode: meta.ino() }
    }
}

fn parse(path: &Path, purpose: Purpose, text: &[u8]) -> Result<LiveKeys, KeyError> {
    // serde_json's own message could quote the text, secrets included.
    let stored: Vec<StoredKey> =
        serde_json::from_slice(text).map_err(|_| malformed(path, "not a list of kid, created_at and secret"))?;
    if !(1..=2).contains(&stored.len()) {
        return Err(malformed(path, "a purpose has one or two keys"));
    }
    if stored.len() == 2 && stored[0].kid == stored[1].kid {
        return Err(malformed(path, "two keys have one kid"));
    }
    let keys = stored.into_iter().map(|key| {
        let secret = STANDARD.decode(&key.secret).map_err(|_| malformed(path, "a secret is not base64"))?;
        LiveKey::new(purpose, key.kid, key.created_at, Zeroizing::new(secret))
            .map_err(|reason| KeyError::Weak { path: path.to_owned(), reason })
    });
    Ok(LiveKeys::new(keys.collect::<Result<_, _>>()?))
}

fn render(keys: &LiveKeys) -> Zeroizing<Vec<u8>> {
    let stored: Vec<StoredKey> = keys
        .iter()
        .map(|key| StoredKey {
            kid: key.id(),
            created_at: key.created_at(),
            secret: STANDARD.encode(key.expose_secret()),
        })
        .collect();
    Zeroizing::new(serde_json::to_vec_pretty(&stored).expect("strings and times are JSON"))
}

fn write_aside(path: &Path, keys: &LiveKeys, entropy: &dyn Entropy) -> Result<PathBuf, KeyError> {
    let aside = path.with_extension(format!("{}.tmp", hex::encode(entropy.bytes::<8>())));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(&render(keys)).and_then(|()| file.sync_all()));
    if let Err(error) = written {
        // The write's error is the one to report, whether or not the leftover goes.
        let _ = fs::remove_file(&aside);
        return Err(io_error("write", &aside)(error));
    }
    Ok(aside)
}

fn sync_dir(path: &Path) -> Result<(), KeyError> {
    let dir = path.parent().expect("a key file is in a folder");
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", dir))
}

fn refuse_exposed(path: &Path, meta: &fs::Metadata) -> Result<(), KeyError> {
    let mode = meta.mode() & 0o777;
    if mode & OTHERS == 0 { Ok(()) } else { Err(KeyError::Exposed { path: path.to_owned(), mode }) }
}

fn malformed(path: &Path, reason: &'static str) -> KeyError {
    KeyError::Malformed { path: path.to_owned(), reason }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::Io { action, path, source }
}
