//! HTTP/2 with prior knowledge, and the client that leaves its window shut.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::{TestServer, bounded};

async fn connect(server: &TestServer, window: u32) -> http2::SendRequest<Empty<bytes::Bytes>> {
    let io = TokioIo::new(TcpStream::connect(server.address).await.expect("the server listens"));
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(io)
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    sender
}

fn get(server: &TestServer, path: &str) -> hyper::Request<Empty<bytes::Bytes>> {
    hyper::Request::get(server.url(path)).body(Empty::new()).expect("a request")
}

#[tokio::test]
async fn requests_are_answered() {
    let server = TestServer::start().await;
    let mut client = connect(&server, 65_535).await;
    let response = bounded(client.send_request(get(&server, "/healthz"))).await.expect("an answer");
    assert_eq!((200, hyper::Version::HTTP_2), (response.status().as_u16(), response.version()));
    let response = bounded(client.send_request(get(&server, "/nowhere"))).await.expect("an answer");
    assert_eq!("application/problem+json", response.headers()["content-type"]);
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_reset_and_the_others_live_on() {
    let server = TestServer::with(|server, _| server.write_stall_timeout_ms = 100).await;
    let mut client = connect(&server, 65_535).await;
    let stalled = bounded(client.send_request(get(&server, "/api/v1/bytes"))).await.expect("a head");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = bounded(stalled.into_body().collect()).await.expect_err("the stream was reset");
    assert!(error.to_string().contains("http2") || std::error::Error::source(&error).is_some(), "{error}");
    let response = bounded(client.send_request(get(&server, "/healthz"))).await.expect("an answer");
    assert_eq!(200, response.status().as_u16());
}

#[tokio::test]
async fn a_slow_route_is_not_a_stalled_client() {
    let server = TestServer::with(|server, _| server.write_stall_timeout_ms = 50).await;
    let mut client = connect(&server, 65_535).await;
    let answer = tokio::spawn(client.send_request(get(&server, "/api/v1/gate")));
    server.someone_at_the_gate().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.shared.gate.add_permits(1);
    assert_eq!(200, bounded(answer).await.expect("no panic").expect("an answer").status().as_u16());
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = TestServer::with(|server, _| server.keep_alive_idle_ms = 50).await;
    let mut client = connect(&server, 65_535).await;
    bounded(client.send_request(get(&server, "/healthz"))).await.expect("an answer");
    bounded(async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_contradicts_the_authority_is_400() {
    let server = TestServer::start().await;
    let mut client = connect(&server, 65_535).await;
    let mut request = get(&server, "/healthz");
    request.headers_mut().insert("host", "other.example".parse().expect("a header value"));
    assert_eq!(400, bounded(client.send_request(request)).await.expect("an answer").status().as_u16());
}

#[tokio::test]
async fn draining_lets_a_running_stream_end() {
    let server = TestServer::start().await;
    let mut client = connect(&server, 65_535).await;
    let answer = tokio::spawn(client.send_request(get(&server, "/api/v1/gate")));
    server.someone_at_the_gate().await;
    server.stop.ask();
    server.shared.gate.add_permits(1);
    assert_eq!(200, bounded(answer).await.expect("no panic").expect("an answer").status().as_u16());
    assert_eq!(vidserver::server::Drained::Clean, bounded(server.run).await.expect("no panic"));
}
