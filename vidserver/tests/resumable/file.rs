//! Files that are videos, of any size.

use std::path::{Path, PathBuf};

/// A video of `size` bytes, at least 64 KiB: a real one, and behind it a box of bytes that nobody plays
/// (ISO/IEC 14496-12, `free`), another for each seed.
pub(crate) fn video(size: usize, seed: u64) -> Vec<u8> {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/no-audio.mp4");
    let mut bytes = std::fs::read(clip).expect("the fixture is there");
    let rest = size.checked_sub(bytes.len() + 8).expect("more than the clip");
    let length = u32::try_from(rest + 8).expect("less than 4 GiB");
    bytes.extend(length.to_be_bytes());
    bytes.extend(b"free");
    bytes.resize(size, 0);
    fastrand::Rng::with_seed(seed).fill(&mut bytes[size - rest..]);
    bytes
}

/// The files in a folder, however deep.
pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}
