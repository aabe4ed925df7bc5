//! An HTTP/1.1 client over one keep-alive connection that does as little as it can: what is measured
//! is the server, and both servers of a comparison get the same client.
//!
//! It knows answers with a `Content-Length` and no other framing, which is all these programs meet.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes read from the socket at once.
const BUFFER: usize = 64 * 1024;

/// The longest wait for an answer. Two hundred password hashes take a while on two cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// One connection, used for one request after the other.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold something.
    filled: usize,
}

/// What a server answered, except for its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Bytes of its body.
    pub length: u64,
    /// Seconds after which it may be asked again, if it says so.
    pub retry_after_s: Option<u32>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The socket's own.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER], filled: 0 })
    }

    /// The head of a request without a body.
    pub fn get_head(path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n").into_bytes()
    }

    /// Sends the bytes of a request and reads its answer to the end, keeping nothing of the body.
    ///
    /// # Errors
    /// The socket's own; [`ErrorKind::InvalidData`] for an answer this client does not know;
    /// [`ErrorKind::TimedOut`] after two minutes.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.answer(|_| {}).await
    }

    /// A request with a JSON body or none, answered with JSON; anything else is taken for `null`.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn json(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&serde_json::Value>,
    ) -> io::Result<(Answer, serde_json::Value)> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        if let Some(token) = token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        self.stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
        let mut bytes = Vec::new();
        let answer = self.answer(|part| bytes.extend_from_slice(part)).await?;
        let json = serde_json::from_slice(&bytes).unwrap_or(serde_json::Value::Null);
        Ok((answer, json))
    }

    /// The bytes of an answer to `GET path`.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn fetch(&mut self, path: &str) -> io::Result<(Answer, Vec<u8>)> {
        self.stream.write_all(&Self::get_head(path)).await?;
        let mut bytes = Vec::new();
        let answer = self.answer(|part| bytes.extend_from_slice(part)).await?;
        Ok((answer, bytes))
    }

    /// Puts `length` bytes to `path`: `head` and then zeros.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn put_padded(&mut self, path: &str, head: &[u8], length: u64) -> io::Result<Answer> {
        let request = format!(
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/octet-stream\r\n\
             content-length: {length}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.write_all(head).await?;
        let zeros = vec![0; BUFFER];
        let mut left = length - head.len() as u64;
        while left > 0 {
            let part = left.min(BUFFER as u64);
            self.stream.write_all(&zeros[..part as usize]).await?;
            left -= part;
        }
        self.answer(|_| {}).await
    }

    async fn answer(&mut self, body: impl FnMut(&[u8])) -> io::Result<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer(body)).await?
    }

    async fn read_answer(&mut self, mut body: impl FnMut(&[u8])) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await?;
        };
        let answer = parse(&self.buffer[..end]).ok_or(ErrorKind::InvalidData)?;
        let mut left = answer.length;
        let mut at = end;
        loop {
            let part = left.min((self.filled - at) as u64) as usize;
            body(&self.buffer[at..at + part]);
            left -= part as u64;
            if left == 0 {
                self.keep_from(at + part);
                return Ok(answer);
            }
            (self.filled, at) = (0, 0);
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        let room = &mut self.buffer[self.filled..];
        if room.is_empty() {
            return Err(ErrorKind::InvalidData.into());
        }
        match self.stream.read(room).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                self.filled += read;
                Ok(())
            }
        }
    }

    fn keep_from(&mut self, at: usize) {
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// What a head that ends with its empty line says.
fn parse(head: &[u8]) -> Option<Answer> {
    let head = std::str::from_utf8(head).ok()?;
    let (status, fields) = head.strip_prefix("HTTP/1.1 ")?.split_once("\r\n")?;
    let length = field(fields, "content-length")?.parse().ok()?;
    let retry_after_s = field(fields, "retry-after").and_then(|value| value.parse().ok());
    Some(Answer { status: status.get(..3)?.parse().ok()?, length, retry_after_s })
}

fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let mut named = fields.lines().filter_map(|line| line.split_once(':'));
    named.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_gives_status_length_and_wait() {
        let head = b"HTTP/1.1 200 OK\r\ndate: x\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(Some(Answer { status: 200, length: 12, retry_after_s: None }), parse(head));
        let head = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nRetry-After: 2\r\n\r\n";
        assert_eq!(Some(Answer { status: 503, length: 0, retry_after_s: Some(2) }), parse(head));
        assert_eq!(None, parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"));
        assert_eq!(None, parse(b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n"));
    }
}
