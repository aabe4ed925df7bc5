//! Requests that once got the wrong answer.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vidcore::Platform;
use vidcore::platform::Settings;
use vidserver::config::{HttpSettings, ServerSettings};
use vidserver::server::{Server, Stop};

/// A server on a free port, until it is dropped with the test.
async fn serve(folder: &tempfile::TempDir) -> SocketAddr {
    let mut settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
    settings.worker.enabled = false;
    let platform = Platform::open(settings).await.expect("the folder opens");
    let router = vidserver::app(platform, HttpSettings::default()).router;
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::bind(loopback, ServerSettings::default(), router).await.expect("a free port");
    let address = server.local_addr();
    tokio::spawn(server.run(Stop::new()));
    address
}

#[tokio::test]
async fn a_caller_that_excludes_every_coding_still_learns_what_became_of_its_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = serve(&folder).await;
    let account = json!({"email": "a@example.org", "handle": "somebody", "password": "correct horse battery"});
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let signed_up = client
        .post(format!("http://{address}/api/v1/auth/register"))
        .header("accept-encoding", "identity;q=0, *;q=0")
        .json(&account)
        .send()
        .await
        .expect("an answer");
    assert_eq!(201, signed_up.status());
    for coding in ["identity;q=0", "*;q=0", "gzip;q=0, identity;q=0", "identity;q=0, br"] {
        let request = client.get(format!("http://{address}/api/v1/videos")).header("accept-encoding", coding);
        assert_eq!(200, request.send().await.expect("an answer").status(), "{coding}");
    }
}

#[tokio::test]
async fn a_length_in_too_many_digits_smuggles_nothing_past_the_framing_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = serve(&folder).await;
    let body = "a b\r\n\r\n";
    let length = format!("{}{}", "0".repeat(130), body.len());
    let first = format!("POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    let second = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                  content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let mut socket = TcpStream::connect(address).await.expect("the server listens");
    socket.write_all(format!("{first}{second}").as_bytes()).await.expect("the server reads");
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await.expect("the server closes the connection");
    assert!(!answers.contains("HTTP/1.1 422"), "{answers}");
    assert!(answers.starts_with("HTTP/1.1 400"), "{answers}");
}
