//! Clients that are slow, silent, greedy or ambiguous, over raw sockets.

use tokio::io::AsyncWriteExt;

use crate::support::{TestServer, bounded};

const GET: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let server = TestServer::with(|server, _| server.first_byte_timeout_ms = 50).await;
    assert_eq!("", server.connect().await.rest().await);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_let_go() {
    let server = TestServer::with(|server, _| server.header_read_timeout_ms = 50).await;
    for start in ["G", "GET / HTTP/1.1\r\nHost: x\r\nX-A", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut raw = server.connect().await;
        raw.send(start).await;
        let rest = raw.rest().await;
        assert!(!rest.starts_with("HTTP/1.1 2"), "{rest}");
    }
}

#[tokio::test]
async fn a_head_in_drips_has_one_deadline_for_the_whole() {
    let server = TestServer::with(|server, _| server.header_read_timeout_ms = 100).await;
    let mut raw = server.connect().await;
    raw.send("GET / HTTP/1.1\r\nHost: x\r\n").await;
    // Each drip comes well within the time; if it started anew with each, this would never end.
    let dripping = async {
        while raw.0.write_all(b"X-A: b\r\n").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    bounded(dripping).await;
}

#[tokio::test]
async fn the_second_head_has_its_own_deadline() {
    let server = TestServer::with(|server, _| server.header_read_timeout_ms = 50).await;
    let mut raw = server.connect().await;
    raw.send(GET).await;
    assert!(raw.answer().await.0.starts_with("HTTP/1.1 200 "));
    raw.send("GET / HT").await;
    assert!(!raw.rest().await.starts_with("HTTP/1.1 2"));
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_head_but_not_its_own() {
    let server = TestServer::with(|server, _| {
        server.header_read_timeout_ms = 50;
        server.keep_alive_idle_ms = 600;
    })
    .await;
    let mut raw = server.connect().await;
    raw.send(GET).await;
    raw.answer().await;
    // Far beyond the time for a head, well within the idle time.
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    raw.send(GET).await;
    assert!(raw.answer().await.0.starts_with("HTTP/1.1 200 "));
    assert_eq!("", raw.rest().await);
}

#[tokio::test]
async fn a_long_answer_is_not_idle() {
    let server = TestServer::with(|server, _| server.keep_alive_idle_ms = 50).await;
    let mut raw = server.connect().await;
    raw.send("GET /api/v1/gate HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.someone_at_the_gate().await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    server.shared.gate.add_permits(1);
    assert!(raw.answer().await.1.contains("passed"));
}

#[tokio::test]
async fn http_1_1_without_one_good_host_is_400_and_closed() {
    let server = TestServer::start().await;
    for (hosts, detail) in [
        ("", "Host is missing"),
        ("Host: a\r\nHost: a\r\n", "Host is given more than once"),
        ("Host: a b\r\n", "Host is malformed"),
        ("Host:\r\n", "Host is malformed"),
    ] {
        let mut raw = server.connect().await;
        raw.send(&format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n")).await;
        let rest = raw.rest().await;
        assert!(rest.starts_with("HTTP/1.1 400 ") && rest.contains("application/problem+json"), "{rest}");
        assert!(rest.contains(detail), "{rest}");
    }
}

#[tokio::test]
async fn http_1_0_may_go_without_a_host() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(raw.rest().await.starts_with("HTTP/1.0 200 "));
}

#[tokio::test]
async fn two_lengths_are_400_and_nothing_after_them_is_served() {
    let server = TestServer::start().await;
    let smuggled = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding:chunked\r\ncontent-length:0\r\n",
    ] {
        let mut raw = server.connect().await;
        raw.send(&format!("PUT /api/v1/bytes HTTP/1.1\r\nHost: x\r\n{lengths}\r\n0\r\n\r\n{smuggled}")).await;
        let rest = raw.rest().await;
        assert!(rest.starts_with("HTTP/1.1 400 "), "{rest}");
        assert!(rest.contains("Content-Length and Transfer-Encoding exclude each other"), "{rest}");
        assert_eq!(1, rest.matches("HTTP/1.1 ").count(), "{rest}");
    }
}

#[tokio::test]
async fn two_lengths_after_a_good_request_refuse_only_the_second() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    let bad =
        "PUT /api/v1/bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    raw.send(&format!("{GET}{bad}")).await;
    let rest = raw.rest().await;
    assert!(rest.starts_with("HTTP/1.1 200 "), "{rest}");
    assert_eq!(1, rest.matches("HTTP/1.1 400 ").count(), "{rest}");
}

#[tokio::test]
async fn a_chunked_request_is_served_and_is_the_last_one() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    let body = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    raw.send(&format!("PUT /api/v1/bytes HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
    let rest = raw.rest().await;
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.contains("connection: close"), "{rest}");
    assert!(rest.ends_with("\r\n\r\n5"), "{rest}");
}

#[tokio::test]
async fn lengths_that_differ_are_400() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send("PUT /api/v1/bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    let put =
        |body: &str| format!("PUT /api/v1/bytes HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    raw.send(&format!("{}{GET}{}", put("abc"), put("abcd"))).await;
    assert_eq!("3", raw.answer().await.1);
    assert_eq!("{\"status\":\"ok\"}", raw.answer().await.1);
    assert_eq!("4", raw.answer().await.1);
}

#[tokio::test]
async fn a_huge_head_is_431() {
    let server = TestServer::with(|server, _| server.max_header_bytes = 8192).await;
    let mut raw = server.connect().await;
    raw.send(&format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}", "a".repeat(8192))).await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn too_many_headers_are_431() {
    let server = TestServer::start().await;
    let mut raw = server.connect().await;
    raw.send(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(200))).await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let server = TestServer::with(|server, _| server.write_stall_timeout_ms = 100).await;
    let mut raw = server.connect().await;
    raw.send("GET /api/v1/bytes HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // The answer is far larger than what both sockets buffer: the server can only wait or let go.
    // Once it has let go and everything buffered is read, the end comes before the whole.
    tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
    let received = raw.rest().await.len();
    assert!(received < 4096 * 65_536, "{received}");
}

#[tokio::test]
async fn a_body_that_stops_is_408() {
    let server = TestServer::with(|_, http| http.body_idle_timeout_ms = 50).await;
    for target in ["PUT /api/v1/bytes", "POST /api/v1/notes"] {
        let mut raw = server.connect().await;
        raw.send(&format!(
            "{target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\nabc"
        ))
        .await;
        let rest = raw.rest().await;
        assert!(rest.starts_with("HTTP/1.1 408 ") && rest.contains("request_timeout"), "{rest}");
    }
}

#[tokio::test]
async fn a_body_in_drips_is_408() {
    let server = TestServer::with(|_, http| http.body_idle_timeout_ms = 200).await;
    let mut raw = server.connect().await;
    raw.send("PUT /api/v1/bytes HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").await;
    let (mut read, mut write) = raw.0.into_split();
    let drip = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let mut start = [0; 13];
    bounded(tokio::io::AsyncReadExt::read_exact(&mut read, &mut start)).await.expect("an answer");
    assert_eq!(b"HTTP/1.1 408 ", &start);
    drip.abort();
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_their_turn() {
    let server = TestServer::with(|server, _| server.max_connections = 1).await;
    let mut first = server.connect().await;
    first.send(GET).await;
    first.answer().await;
    let mut second = server.connect().await;
    second.send(GET).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), second.answer()).await;
    assert!(early.is_err(), "the first connection holds the only place");
    drop(first);
    // A dropped read lost nothing: no byte had come.
    assert!(second.answer().await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn odd_targets_are_answered() {
    let server = TestServer::start().await;
    for line in [
        "OPTIONS * HTTP/1.1",
        "CONNECT a.example:1 HTTP/1.1",
        "GET http://x/healthz?a=%ff HTTP/1.1",
        "BREW // HTTP/1.1",
    ] {
        let mut raw = server.connect().await;
        raw.send(&format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        let rest = raw.rest().await;
        assert!(rest.starts_with("HTTP/1.1 404 ") || rest.starts_with("HTTP/1.1 200 "), "{line}: {rest}");
    }
}
