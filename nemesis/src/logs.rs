//! What the programs under test say: their logs, one JSON object a line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::Failure;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line(Value);

impl Line {
    /// A member of the line itself or of the span it was written in.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| self.0.get("span")?.get(name))
    }

    /// Its message.
    pub fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or_default()
    }

    /// Where the API listens, if the line says so.
    pub fn api_address(&self) -> Option<SocketAddr> {
        (self.0["what"] == "api").then(|| self.0["address"].as_str()?.parse().ok())?
    }

    /// Whether it says that a write of that job's attempt came too late.
    pub fn fences(&self, job: &str, token: i64) -> bool {
        self.message().starts_with("fenced")
            && self.member("job.id").and_then(Value::as_str) == Some(job)
            && self.member("token").and_then(Value::as_i64) == Some(token)
    }

    /// How many jobs of lost workers a sweep freed, if the line says so.
    pub fn rescued(&self) -> u64 {
        self.0["rescued"].as_u64().unwrap_or(0)
    }

    /// Whether something panicked.
    pub fn panicked(&self) -> bool {
        self.message().contains("panicked")
    }
}

/// What many lines come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Writes and attempts that were fenced.
    pub fenced: u64,
    /// Jobs of lost workers that were freed.
    pub rescued: u64,
}

impl Tally {
    /// Adds a line.
    pub fn take(&mut self, line: &Line) {
        self.fenced += u64::from(line.message().starts_with("fenced"));
        self.rescued += line.rescued();
    }
}

/// Reads a log from where it was left; a last line that is not whole yet waits for the next time.
#[derive(Debug, Default)]
pub struct Reader {
    offset: u64,
}

impl Reader {
    /// The lines that were added to the file since the last call. What is no JSON is the text of a
    /// panic or of a start that failed, and comes as a line with that message.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&mut self, path: &Path) -> Result<Vec<Line>, Failure> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        self.offset += whole as u64;
        let text = String::from_utf8_lossy(&bytes[..whole]);
        let parse =
            |line: &str| Line(serde_json::from_str(line).unwrap_or_else(|_| serde_json::json!({"message": line})));
        Ok(text.lines().map(parse).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_line_is_told_by_its_job_and_token() {
        let line = |text: &str| Line(serde_json::from_str(text).expect("it is JSON"));
        let own = line(r#"{"message":"fenced: a write of job_a came too late","job.id":"job_a","token":7}"#);
        assert!(own.fences("job_a", 7) && !own.fences("job_a", 8) && !own.fences("job_b", 7));
        let in_span = line(r#"{"message":"fenced: the attempt ended","span":{"job.id":"job_a","token":7}}"#);
        assert!(in_span.fences("job_a", 7));
        assert!(!line(r#"{"message":"working","job.id":"job_a","token":7}"#).fences("job_a", 7));
    }

    #[test]
    fn a_log_is_read_on_from_its_last_whole_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log");
        let mut reader = Reader::default();
        std::fs::write(&path, "{\"message\":\"one\"}\n{\"mess").expect("it is written");
        assert_eq!(1, reader.read(&path).expect("it is read").len());
        std::fs::write(&path, "{\"message\":\"one\"}\n{\"message\":\"two\"}\n").expect("it is written");
        let lines = reader.read(&path).expect("it is read");
        assert_eq!(vec!["two"], lines.iter().map(Line::message).collect::<Vec<_>>());
    }
}
