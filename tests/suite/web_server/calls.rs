//! Calls that wait or change something, and the stop.

use std::time::{Duration, Instant};

use super::{
    client::Client,
    script::{start, start_with},
};

#[test]
fn a_reply_waits_for_its_commit() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    for _ in 0..3 {
        client.send("POST", "/api/v1/claims", "");
        script.wait_until(|state| state.uncommitted.len() == 1);
        assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
        assert!(client.has_received_nothing());
        script.commit();
        assert_eq!(client.receive().status, 201);
    }
    // A commit that never comes is no success.
    client.send("POST", "/api/v1/claims", "");
    script.wait_until(|state| state.uncommitted.len() == 1);
    script.set(|state| state.uncommitted.clear());
    assert_eq!(client.receive().status, 500);
    assert!(server.stop());
}

/// Beside others that do the same, and without leaving a reply to the lookout, which comes every 100 ms.
#[test]
fn the_thread_whose_reply_waits_commits_and_sends() {
    const CALLS: u32 = 100;
    let (script, server) = start();
    script.set(|state| state.leaves_commits = true);
    let address = server.local_addr();
    let started = Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                for _ in 0..CALLS {
                    client.send("POST", "/api/v1/claims", "");
                    assert_eq!(client.receive().status, 201);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let took = started.elapsed();
    assert!(took < CALLS / 2 * Duration::from_millis(100), "{took:?}");
    assert!(server.stop());
}

#[test]
fn waiting_calls_occupy_no_worker() {
    let (script, server) = start();
    let mut waiting: Vec<_> = (0..500).map(|_| Client::new(server.local_addr())).collect();
    for client in &mut waiting {
        client.send("PUT", "/api/v1/claims/a", "");
    }
    script.wait_until(|state| state.waiting == 500);
    let started = Instant::now();
    assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
    println!("beside 500 waiting calls: {:?}", started.elapsed());
    script.set(|state| state.released = true);
    for client in &mut waiting {
        assert_eq!(client.receive().status, 201);
    }
    assert!(server.stop());
}

#[test]
fn a_call_that_finds_no_thread_is_refused() {
    let (script, server) = start_with(|config| config.waiting_threads_max = 1);
    let mut first = Client::new(server.local_addr());
    first.send("PUT", "/api/v1/claims/a", "");
    script.wait_until(|state| state.waiting == 1);
    let mut second = Client::new(server.local_addr());
    second.send("PUT", "/api/v1/claims/b", "");
    let response = second.receive();
    assert_eq!(response.status, 503);
    assert!(response.head.contains("\r\nRetry-After: 5\r\n"), "{}", response.head);
    script.set(|state| state.released = true);
    assert_eq!(first.receive().status, 201);
    assert!(server.stop());
}

#[test]
fn a_stop_answers_everybody() {
    let (script, server) = start();
    let address = server.local_addr();
    let mut waiting: Vec<_> = (0..50).map(|_| Client::new(address)).collect();
    for client in &mut waiting {
        client.send("PUT", "/api/v1/claims/a", "");
    }
    let mut changing = Client::new(address);
    changing.send("POST", "/api/v1/claims", "");
    let mut late = Client::new(address);
    assert_eq!(late.get("/healthz").status, 200);
    script.wait_until(|state| state.waiting == 50 && state.uncommitted.len() == 1);
    let started = Instant::now();
    script.set(|state| state.stopping = true);
    let stopper = std::thread::spawn(move || server.stop());
    for client in &mut waiting {
        let response = client.receive();
        assert_eq!(response.status, 503);
        assert!(response.head.contains("\r\nRetry-After: 1\r\n"), "{}", response.head);
    }
    // The stop waits for the commit; meanwhile nobody gets in.
    loop {
        let calls = script.state.lock().calls;
        let response = late.get("/healthz");
        if response.status == 503 {
            assert!(String::from_utf8_lossy(&response.body).contains("\"code\":\"stopping\""));
            assert_eq!(script.state.lock().calls, calls);
            break;
        }
    }
    script.commit();
    assert_eq!(changing.receive().status, 201);
    assert!(stopper.join().unwrap());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // Until the process ends nobody is left with tiny_http's 500, on old connections as on new ones.
    for client in [&mut late, &mut Client::new(address)] {
        assert_eq!(client.get("/healthz").status, 503);
    }
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    client.send("PUT", "/api/v1/claims/a", "");
    script.wait_until(|state| state.waiting == 1);
    let started = Instant::now();
    assert!(!server.stop());
    assert!(started.elapsed() < Duration::from_millis(1_900), "{:?}", started.elapsed());
    script.set(|state| state.released = true);
}
