//! Stopping: running requests end, idle connections close, a second wish ends it at once.

use vidserver::server::Drained;

use crate::support::{TestServer, bounded};

#[tokio::test]
async fn a_running_request_is_answered_before_the_server_ends() {
    let server = TestServer::start().await;
    let mut busy = server.connect().await;
    busy.send("GET /api/v1/gate HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.someone_at_the_gate().await;
    let mut idle = server.connect().await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    idle.answer().await;
    let mut fresh = server.connect().await;

    server.stop.ask();
    assert_eq!(("", ""), (idle.rest().await.as_str(), fresh.rest().await.as_str()));
    assert!(!server.run.is_finished());
    server.shared.gate.add_permits(1);
    let rest = busy.rest().await;
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("passed"), "{rest}");
    assert_eq!(Drained::Clean, bounded(server.run).await.expect("no panic"));
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_second_wish_cuts_what_still_runs() {
    let server = TestServer::start().await;
    let mut busy = server.connect().await;
    busy.send("GET /api/v1/gate HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.someone_at_the_gate().await;
    server.stop.ask();
    server.stop.ask();
    assert_eq!(Drained::Cut(1), bounded(server.run).await.expect("no panic"));
    assert_eq!("", busy.rest().await);
}

#[tokio::test]
async fn draining_ends_with_its_time() {
    let server = TestServer::with(|server, _| server.drain_ms = 50).await;
    let mut busy = server.connect().await;
    busy.send("GET /api/v1/gate HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.someone_at_the_gate().await;
    server.stop.ask();
    assert_eq!(Drained::Cut(1), bounded(server.run).await.expect("no panic"));
}
