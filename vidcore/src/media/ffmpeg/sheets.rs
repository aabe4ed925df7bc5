//! From the sheets ffmpeg wrote to a storyboard: names, and the index over them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::JPEG_END;
use super::arguments::TILES;
use crate::media::OutputFile;
use crate::media::storyboard::{INDEX, INDEX_TYPE, Layout};
use crate::storage::objects::sha256;

/// Checks the sheets in the folder, names them, and writes their index, which comes first in the answer;
/// nothing if the file had no picture.
pub(super) fn finish(folder: &Path, layout: &Layout, length: Duration) -> io::Result<Vec<OutputFile>> {
    let pictures = count(folder)?.min(layout.per_sheet() * layout.sheets);
    let mut names = Vec::new();
    for number in 1..=pictures.div_ceil(layout.per_sheet()) {
        names.push(name(folder, number)?);
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    fs::write(folder.join(INDEX), layout.index(&names, pictures, length))?;
    let index = OutputFile { name: INDEX.to_owned(), content_type: INDEX_TYPE };
    let sheets = names.into_iter().map(|name| OutputFile { name, content_type: "image/jpeg" });
    Ok(std::iter::once(index).chain(sheets).collect())
}

/// How many pictures are on the sheets.
fn count(folder: &Path) -> io::Result<u32> {
    let lines = match fs::read_to_string(folder.join(TILES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        lines => lines?,
    };
    Ok(u32::try_from(lines.lines().filter(|line| line.starts_with("frame:")).count()).unwrap_or(u32::MAX))
}

/// Gives a whole sheet a name with its bytes' hash in it: players and caches may keep it for ever, also where
/// a new source's storyboard takes its place.
fn name(folder: &Path, number: u32) -> io::Result<String> {
    let made = folder.join(format!("sheet_{number:03}.jpg"));
    let bytes = fs::read(&made)?;
    // On a full disk ffmpeg may end well all the same.
    if !bytes.ends_with(&JPEG_END) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a sheet is cut off"));
    }
    let name = format!("sheet_{number:03}_{}.jpg", hex::encode(&sha256(&bytes)[..8]));
    fs::rename(made, folder.join(&name))?;
    Ok(name)
}
