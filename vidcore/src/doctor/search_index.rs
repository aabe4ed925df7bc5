//! Whether the full-text index says what the videos say, without FTS5's own check, which is a write.

use rusqlite::{Connection, named_params};

use crate::doctor::{Check, MAX_FINDINGS, Report};
use crate::id::VideoId;

/// A video's indexed texts and how many words of each the index counted.
struct Indexed {
    pk: i64,
    id: VideoId,
    texts: [String; COLUMNS.len()],
    words: [u64; COLUMNS.len()],
}

/// The columns of the index, in its order.
const COLUMNS: [&str; 3] = ["title", "description", "tags"];

/// Each video is in the index, with its title and, if `deep`, its other texts; nothing else is.
pub(super) fn examine(db: &Connection, deep: bool, report: &mut Report) -> rusqlite::Result<()> {
    absent(db, report)?;
    left_over(db, report)?;
    let columns = if deep { COLUMNS.len() } else { 1 };
    let mut statement = db.prepare(
        "SELECT v.pk, v.id, v.title, v.description, v.tags, d.sz
         FROM videos v JOIN videos_fts_docsize d ON d.id = v.pk",
    )?;
    let videos = statement.query_map([], |row| {
        let words = read_counts(&row.get::<_, Vec<u8>>(5)?);
        Ok(Indexed { pk: row.get(0)?, id: row.get(1)?, texts: [row.get(2)?, row.get(3)?, row.get(4)?], words })
    })?;
    for video in videos {
        let video = video?;
        for (column, name) in COLUMNS.iter().enumerate().take(columns) {
            if !agrees(db, &video, column)? {
                let explanation = format!("The search index holds another {name} of it.");
                report.add(Check::SearchIndex, video.id.to_string(), explanation);
            }
        }
    }
    Ok(())
}

fn absent(db: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement =
        db.prepare("SELECT id FROM videos v WHERE NOT EXISTS (SELECT 1 FROM videos_fts_docsize d WHERE d.id = v.pk)")?;
    for id in statement.query_map([], |row| row.get::<_, VideoId>(0))?.take(MAX_FINDINGS) {
        report.add(Check::SearchIndex, id?.to_string(), "The search index does not hold it.");
    }
    Ok(())
}

fn left_over(db: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let mut statement =
        db.prepare("SELECT id FROM videos_fts_docsize d WHERE NOT EXISTS (SELECT 1 FROM videos v WHERE v.pk = d.id)")?;
    for row in statement.query_map([], |row| row.get::<_, i64>(0))?.take(MAX_FINDINGS) {
        report.add(Check::SearchIndex, "database", format!("The search index holds row {}, which is gone.", row?));
    }
    Ok(())
}

/// Whether the index finds the whole text as one phrase in its column.
fn agrees(db: &Connection, video: &Indexed, column: usize) -> rusqlite::Result<bool> {
    let text = &video.texts[column];
    // A text in which the index sees no word cannot be asked for: its tokenizer knows fewer letters
    // than this program does.
    if video.words[column] == 0 || !text.contains(char::is_alphanumeric) {
        return Ok(!text.contains(|c: char| c.is_ascii_alphanumeric()) || video.words[column] > 0);
    }
    let phrase = format!("{} : \"{}\"", COLUMNS[column], text.replace('"', "\"\""));
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM videos_fts WHERE rowid = :pk AND videos_fts MATCH :phrase)")?
        .query_row(named_params! {":pk": video.pk, ":phrase": phrase}, |row| row.get(0))
}

/// FTS5 keeps the number of words of each column as one varint of SQLite's after the other.
fn read_counts(bytes: &[u8]) -> [u64; COLUMNS.len()] {
    let mut counts = [0; COLUMNS.len()];
    let mut bytes = bytes.iter();
    for count in &mut counts {
        // Seven bits a byte, most significant first; more than four bytes would be more words than a
        // text of this program has characters.
        for byte in bytes.by_ref() {
            *count = (*count << 7) | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_varints() {
        assert_eq!([1, 300, 0], read_counts(&[0x01, 0x82, 0x2c, 0x00]));
        assert_eq!([2, 0, 0], read_counts(&[0x02]));
    }
}
