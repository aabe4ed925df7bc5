//! The protocol as a small client speaks it (tus.io, version 1.0.0).

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, RequestBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::account::Account;

/// Where uploads are opened.
const PATH: &str = "/api/v1/uploads/tus";

/// What is sent along with a request.
pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// An answer: its status, and the offset it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) offset: Option<u64>,
}

/// `Upload-Metadata` that names a video.
pub(crate) fn named(video: &str) -> String {
    format!("video_id {}", STANDARD.encode(video))
}

impl Account {
    /// Opens an upload; its id, or `None` if the connection broke.
    ///
    /// # Panics
    /// If it is refused.
    pub(crate) async fn open(&self, server: SocketAddr, headers: Headers<'_>) -> Option<String> {
        let answer = self.tus(server, Method::POST, PATH, headers).send().await.ok()?;
        assert_eq!(201, answer.status(), "{headers:?}");
        let location = answer.headers()["location"].to_str().expect("a URL");
        let path = location.split('?').next().expect("a path");
        Some(path.rsplit('/').next().expect("an id").to_owned())
    }

    /// Asks for the offset; `None` if the connection broke.
    pub(crate) async fn ask(&self, server: SocketAddr, upload: &str) -> Option<Answer> {
        answered(self.tus(server, Method::HEAD, &format!("{PATH}/{upload}"), &[])).await
    }

    /// The offset of an upload that is there, on a server that answers.
    pub(crate) async fn offset(&self, server: SocketAddr, upload: &str) -> u64 {
        let answer = self.ask(server, upload).await.expect("the server answers");
        assert_eq!(200, answer.status);
        answer.offset.expect("an offset")
    }

    /// Appends; `None` if the connection broke.
    pub(crate) async fn append(
        &self,
        server: SocketAddr,
        upload: &str,
        offset: u64,
        bytes: &[u8],
        headers: Headers<'_>,
    ) -> Option<Answer> {
        let request = self.tus(server, Method::PATCH, &format!("{PATH}/{upload}"), headers);
        let request = request.header("upload-offset", offset).header("content-type", "application/offset+octet-stream");
        answered(request.body(bytes.to_vec())).await
    }

    /// Gives an upload up; `None` if the connection broke.
    pub(crate) async fn terminate(&self, server: SocketAddr, upload: &str) -> Option<Answer> {
        answered(self.tus(server, Method::DELETE, &format!("{PATH}/{upload}"), &[])).await
    }

    /// Begins to append `length` bytes on a connection of its own.
    pub(crate) async fn begin_append(&self, server: SocketAddr, upload: &str, offset: u64, length: usize) -> Half {
        let mut stream = TcpStream::connect(server).await.expect("it listens");
        let head = format!(
            "PATCH {PATH}/{upload} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\nconnection: close\r\n\
             content-type: application/offset+octet-stream\r\nupload-offset: {offset}\r\ncontent-length: {length}\r\n\r\n",
            self.token
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        Half(stream)
    }

    fn tus(&self, server: SocketAddr, method: Method, path: &str, headers: Headers<'_>) -> RequestBuilder {
        let request = self.http.request(method, format!("http://{server}{path}")).bearer_auth(&self.token);
        let request = request.header("tus-resumable", "1.0.0");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }
}

async fn answered(request: RequestBuilder) -> Option<Answer> {
    let answer = request.send().await.ok()?;
    let offset = answer.headers().get("upload-offset").and_then(|offset| offset.to_str().ok()?.parse().ok());
    Some(Answer { status: answer.status().as_u16(), offset })
}

/// A request whose body is still to come.
pub(crate) struct Half(TcpStream);

impl Half {
    /// Sends some of the body; `false` if nobody reads it any more.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The status it is answered with; `None` if the connection is cut without an answer.
    pub(crate) async fn status(mut self) -> Option<u16> {
        let mut answer = Vec::new();
        let _ = self.0.read_to_end(&mut answer).await;
        let line = String::from_utf8_lossy(&answer);
        line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }
}
