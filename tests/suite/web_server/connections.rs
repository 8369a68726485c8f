//! Connections: many at once, kept open, reset, pipelined.

use std::{
    io::Read,
    net::SocketAddr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use semaphored::web_server::{Bound, Config, is_of_a_connection};

use super::{
    client::Client,
    script::{LONG_BODY_BYTES, start, start_with},
};

/// Sixty-four connections from eight threads at once, all kept open; gives the slowest answer.
fn burst(address: SocketAddr) -> (Duration, Vec<Client>) {
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                barrier.wait();
                let started = Instant::now();
                let mut clients: Vec<_> = (0..8).map(|_| Client::new(address)).collect();
                for client in &mut clients {
                    client.send("GET", "/healthz", "");
                }
                for client in &mut clients {
                    assert_eq!(client.receive().status, 200);
                }
                (started.elapsed(), clients)
            })
        })
        .collect();
    let (mut slowest, mut open) = (Duration::ZERO, Vec::new());
    for thread in threads {
        let (took, clients) = thread.join().unwrap();
        slowest = slowest.max(took);
        open.extend(clients);
    }
    (slowest, open)
}

/// Without kicks some of these connections are never answered (see `web_server::kick`).
#[test]
fn bursts_of_connections_that_stay_open_are_all_answered() {
    for _ in 0..10 {
        let (_script, server) = start();
        let (cold, first) = burst(server.local_addr());
        let (warm, second) = burst(server.local_addr());
        drop(first);
        let (after_a_drop, third) = burst(server.local_addr());
        println!("slowest answers: {cold:?} {warm:?} {after_a_drop:?}");
        drop((second, third));
        assert!(server.stop());
    }
}

#[test]
fn a_connection_serves_many_requests() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    for _ in 0..3 {
        let response = client.get("/healthz");
        assert_eq!((response.status, response.body.as_slice()), (200, b"{}".as_slice()));
        assert!(response.head.contains("\r\nCache-Control: no-store\r\n"), "{}", response.head);
        assert!(response.head.contains("\r\nServer: semaphored\r\n"), "{}", response.head);
        assert_eq!(client.get("/nothing").status, 404);
        client.send("HEAD", "/healthz", "");
        let end = "Content-Length: 2\r\n\r\n";
        let mut head = vec![0; 4_096];
        let count = client.stream.read(&mut head).unwrap();
        assert!(String::from_utf8_lossy(&head[..count]).ends_with(end), "no body after it");
        client.send("DELETE", "/api/v1/claims/a", "");
        let response = client.receive();
        assert_eq!(response.status, 204);
        assert!(response.head.contains("\r\nSemaphore-Revision: 5\r\n"), "{}", response.head);
    }
    assert_eq!(script.state.lock().calls, 9);
    assert!(server.stop());
}

/// Without `TCP_NODELAY` each of these takes 44 ms.
#[test]
fn long_answers_do_not_wait_for_an_acknowledgement() {
    let (_script, server) = start();
    let mut client = Client::new(server.local_addr());
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(client.get("/api").body.len(), LONG_BODY_BYTES);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert!(times[10] < Duration::from_millis(30), "{times:?}");
    assert!(server.stop());
}

#[test]
fn pipelined_requests_are_served_in_turn_and_hold_up_nobody() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    client.send("PUT", "/api/v1/claims/a", "");
    for _ in 0..10 {
        client.send("POST", "/api/v1/claims", "");
        client.send("GET", "/healthz", "");
    }
    script.wait_until(|state| state.waiting == 1);
    let mut other = Client::new(server.local_addr());
    for _ in 0..10 {
        assert_eq!(other.get("/healthz").status, 200);
    }
    assert_eq!(script.state.lock().calls, 11, "one began before the one before it was answered");
    script.set(|state| state.released = true);
    assert_eq!(client.receive().status, 201);
    for _ in 0..10 {
        script.wait_until(|state| state.uncommitted.len() == 1);
        assert!(client.has_received_nothing());
        script.commit();
        assert_eq!(client.receive().status, 201);
        assert_eq!(client.receive().status, 200);
    }
    assert_eq!(client.get("/healthz").status, 200);
    assert!(server.stop());
}

#[test]
fn a_client_that_pipelines_without_end_is_left_alone() {
    let (script, server) = start_with(|config| config.pipelined_requests_max = 3);
    let mut client = Client::new(server.local_addr());
    client.send("PUT", "/api/v1/claims/a", "");
    script.wait_until(|state| state.waiting == 1);
    for _ in 0..50 {
        client.send("GET", "/healthz", "");
    }
    let mut other = Client::new(server.local_addr());
    assert_eq!(other.get("/healthz").status, 200);
    script.set(|state| state.released = true);
    assert_eq!(client.receive().status, 201);
    for _ in 0..3 {
        assert_eq!(client.receive().status, 200);
    }
    assert_eq!(other.get("/healthz").status, 200);
    assert!(server.stop());
}

/// tiny_http panics when it reads a head from a connection that was reset before it was accepted.
#[test]
fn clients_that_reset_their_connections_do_no_harm() {
    let (_script, server) = start();
    let panics = Arc::new(AtomicUsize::new(0));
    let default_hook = std::panic::take_hook();
    let counted = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |panic| {
        if is_of_a_connection(panic) {
            counted.fetch_add(1, Ordering::Relaxed);
        } else {
            default_hook(panic);
        }
    }));
    let address = server.local_addr();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..500 {
                    let mut client = Client::new(address);
                    client.send("GET", "/healthz", "");
                    socket2::SockRef::from(&client.stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    println!("connections that panicked: {}", panics.load(Ordering::Relaxed));
    let (_, clients) = burst(address);
    drop(clients);
    assert!(server.stop());
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let (_script, server) = start();
    assert!(Bound::new(Config::new(server.local_addr())).is_err());
    assert!(server.stop());
}
