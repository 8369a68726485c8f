//! A server that is deaf notices it.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use semaphored::web_server::{Answered, Config, Fatal};

use super::{
    PATIENCE,
    client::Client,
    script::{start_heard, start_with},
};

/// The regular ones, and those that may stand in for them.
const WORKERS_MAX: usize = 4 + 64;

/// One probe may be under way when it goes deaf.
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);

/// As the daemon has it.
fn probed(config: &mut Config) {
    config.probe_interval = Config::new(config.listen).probe_interval;
}

#[test]
fn a_server_whose_workers_hang_is_noticed_within_five_seconds() {
    let (tell, told) = mpsc::channel();
    let fatal: Fatal = Arc::new(move |error| tell.send(error.to_string()).unwrap());
    let full = |config: &mut Config| {
        probed(config);
        // As when clients hold all of them: nobody stands in from there.
        config.slow_threads_max = 0;
    };
    let (hear, heard) = mpsc::channel();
    let answered: Answered = Arc::new(move || hear.send(Instant::now()).unwrap());
    let (script, server) = start_heard(full, fatal, answered);
    let address = server.local_addr();
    heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(Client::new(address).get("/healthz").status, 200);
    let mut hanging: Vec<_> = (0..WORKERS_MAX).map(|_| Client::new(address)).collect();
    for client in &mut hanging {
        client.send("GET", "/api/v1/claims/a", "");
    }
    // The first was no hanging one.
    script.wait_until(|state| state.calls > WORKERS_MAX);
    let deaf_since = Instant::now();
    let said = told.recv_timeout(PATIENCE).unwrap();
    let took = deaf_since.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let late = heard.try_iter().filter(|at| *at > deaf_since + PROBE_TIME_MAX).count();
    assert_eq!(late, 0, "nobody is told that it answers");
    assert!(said.contains(&format!("requests to itself on {address} in a row")), "{said}");
    script.set(|state| state.released = true);
    for client in &mut hanging {
        assert_eq!(client.receive().status, 200);
    }
    assert!(server.stop());
}

/// Every probe of these is answered, or the server of `start_with` would panic; and they make connections as
/// the kicks do, so nobody is left behind in a server that has no others.
#[test]
fn a_server_that_serves_is_left_in_peace_until_its_end() {
    let (script, server) = start_with(|config| {
        config.probe_interval = Duration::from_millis(1);
        config.probe_time_max = PATIENCE;
    });
    let mut waiting: Vec<_> = (0..100).map(|_| Client::new(server.local_addr())).collect();
    for client in &mut waiting {
        client.send("PUT", "/api/v1/claims/a", "");
    }
    script.wait_until(|state| state.waiting == 100 && state.calls >= 200);
    script.set(|state| state.released = true);
    for client in &mut waiting {
        assert_eq!(client.receive().status, 201);
    }
    assert!(server.stop());
}
