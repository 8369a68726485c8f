//! Bodies: long, slow, endless, and those of which nobody can say where they end.

use std::io::Write;

use super::{
    client::Client,
    script::{start, start_with},
};

#[test]
fn bodies_of_every_kind_arrive() {
    let (_script, server) = start();
    let mut client = Client::new(server.local_addr());
    let path = "/api/v1/semaphores/s/claims";
    for bytes in [0, 1, 1_024, 1_025, 65_536] {
        let body = vec![b'x'; bytes];
        client.send_body("POST", path, &body);
        assert_eq!(client.receive().body, body, "{bytes} bytes");
    }
    let json = "Content-Type: application/json\r\n";
    client.send("POST", path, &format!("{json}Transfer-Encoding: chunked\r\n"));
    client.send_raw(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.receive().body, b"abcde");
    client.send("POST", path, &format!("{json}Content-Length: 3\r\nExpect: 100-continue\r\n"));
    assert_eq!(client.receive_any().status, 100);
    client.send_raw(b"abc");
    assert_eq!(client.receive().body, b"abc");
    assert!(server.stop());
}

#[test]
fn bodies_that_are_too_long_are_refused_and_the_connection_goes_on() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    let path = "/api/v1/semaphores/s/claims";
    let long = vec![b'x'; 70_000];
    for _ in 0..2 {
        client.send_body("POST", path, &long);
        let response = client.receive();
        assert_eq!(response.status, 413);
        assert!(String::from_utf8_lossy(&response.body).contains("\"code\":\"body-too-large\""));
    }
    client.send("POST", path, "Transfer-Encoding: chunked\r\n");
    for _ in 0..3 {
        client.send_raw(b"6000\r\n");
        client.send_raw(&long[..0x6000]);
        client.send_raw(b"\r\n");
    }
    client.send_raw(b"0\r\n\r\n");
    assert_eq!(client.receive().status, 413);
    assert_eq!(script.state.lock().calls, 0, "the API saw one");
    assert_eq!(client.get("/healthz").status, 200);
    assert!(server.stop());
}

/// Each of these would end the process in tiny_http, or make it take the body for a request.
#[test]
fn what_cannot_be_read_to_its_end_is_answered_and_left() {
    let (script, server) = start();
    let cases = [
        ("Content-Length: 1000000000000\r\n", 413),
        ("Content-Length: 18446744073709551615\r\n", 413),
        ("Content-Length: 99999999999999999999\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 501),
    ];
    for (headers, status) in cases {
        let mut client = Client::new(server.local_addr());
        client.send("POST", "/api/v1/claims", headers);
        // A body of up to 1,024 bytes is read by tiny_http before anybody sees the head.
        client.send_raw(b"hello");
        let response = client.receive();
        assert_eq!(response.status, status, "{headers}");
        assert!(response.head.contains("\r\nConnection: close\r\n"), "{}", response.head);
        assert!(String::from_utf8_lossy(&response.body).ends_with('}'), "a whole document");
        let _ = client.stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
        drop(client);
        assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
    }
    let mut client = Client::new(server.local_addr());
    client.send("POST", "/api/v1/claims", "Transfer-Encoding: chunked\r\n");
    client.send_raw(b"nonsense\r\nGET /healthz HTTP/1.1\r\n\r\n");
    assert_eq!(client.receive().status, 400);
    assert_eq!(script.state.lock().calls, cases.len(), "a body was taken for a request");
    assert!(server.stop());
}

#[test]
fn slow_bodies_hold_up_nobody() {
    let (_script, server) = start();
    let mut slow: Vec<_> = (0..20).map(|_| Client::new(server.local_addr())).collect();
    for client in &mut slow {
        let json = "Content-Type: application/json\r\nContent-Length: 2000\r\n";
        client.send("POST", "/api/v1/semaphores/s/claims", json);
        client.send_raw(b"x");
    }
    assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
    for client in &mut slow {
        client.send_raw(&[b'x'; 1_999]);
        assert_eq!(client.receive().body.len(), 2_000);
    }
    let mut short = Client::new(server.local_addr());
    short.send("POST", "/api/v1/claims", "Content-Length: 2000\r\n");
    drop(short);
    assert!(server.stop());
}

#[test]
fn more_slow_bodies_than_threads_are_refused_and_nobody_else() {
    let (_script, server) = start_with(|config| config.slow_threads_max = 1);
    let head = "Content-Type: application/json\r\nContent-Length: 2000\r\n";
    let path = "/api/v1/semaphores/s/claims";
    let [mut slow, mut late] = std::array::from_fn(|_| {
        let mut client = Client::new(server.local_addr());
        client.send("POST", path, head);
        client.send_raw(b"x");
        client
    });
    // Which of the two has the thread is not ours to say.
    while slow.has_received_nothing() && late.has_received_nothing() {
        std::thread::yield_now();
    }
    if late.has_received_nothing() {
        std::mem::swap(&mut slow, &mut late);
    }
    let refused = late.receive();
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("\r\nRetry-After: 5\r\n"), "{}", refused.head);
    assert!(refused.head.contains("\r\nConnection: close\r\n"), "{}", refused.head);
    assert!(String::from_utf8_lossy(&refused.body).contains("slow_threads_max"));
    let mut other = Client::new(server.local_addr());
    assert_eq!(other.get("/healthz").status, 200);
    other.send_body("POST", path, b"short");
    assert_eq!(other.receive().body, b"short");
    slow.send_raw(&[b'x'; 1_999]);
    assert_eq!(slow.receive().status, 200);
    assert!(server.stop());
}
