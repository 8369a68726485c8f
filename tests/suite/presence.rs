//! No permit for the dead: clients that are killed while they wait are passed over, direct and behind NGINX.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    daemon::{Daemon, poll},
    http,
    proxy::{Proxy, descriptors},
};

const CONFIG: &str = "[semaphores]\nA = 1\nB = 1\n";
const A: &str = r#"{"permits": {"A": 1}}"#;
/// Within which a closed connection has to be noticed.
const NOTICED: Duration = Duration::from_secs(2);

/// A job that waits: a real client process.
struct Job {
    child: Child,
    claim: String,
}

impl Job {
    /// Starts a job that says its claim's id and fence when it has its permit, and ends when it is told.
    fn start(url: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_semaphorectl"))
            .args(["run", "A", "--", "sh", "-c", "echo $SEMAPHORE_CLAIM_ID $SEMAPHORE_FENCES"])
            .env("SEMAPHORE_URL", url)
            .env_remove("SEMAPHORE_CLAIM_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The claim's id and fence.
    fn end(mut self) -> (String, u64) {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(self.child.wait().unwrap().success());
        let (claim, fences) = line.trim().split_once(' ').unwrap();
        let fence = fences.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        (claim.to_owned(), fence)
    }
}

fn queue(daemon: &Daemon) -> Vec<String> {
    let waiting = daemon.look("/api/v1/claims?semaphore=A&state=waiting&limit=100");
    let claims = waiting["claims"].as_array().unwrap();
    claims.iter().map(|claim| claim["id"].as_str().unwrap().to_owned()).collect()
}

/// So many jobs in the queue, in the order of the answer.
fn jobs(daemon: &Daemon, url: &str, count: usize) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    for number in 0..count {
        let child = Job::start(url);
        let claim = poll("the job in the queue", || queue(daemon).get(number).cloned());
        daemon.wait_for_blocked(number as u64 + 1);
        jobs.push(Job { child, claim });
    }
    jobs
}

/// 50 jobs wait, each second one is killed, and the permit comes free before anybody can have noticed.
fn the_dead_get_nothing(daemon: &Daemon, url: &str) {
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let jobs = jobs(daemon, url, 50);
    let (mut dead, mut alive) = (Vec::new(), Vec::new());
    for (number, mut job) in jobs.into_iter().enumerate() {
        if number % 2 == 0 {
            job.child.kill().unwrap();
            job.child.wait().unwrap();
            dead.push(job.claim);
        } else {
            alive.push(job);
        }
    }
    let started = Instant::now();
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/holder", "").status, 204);
    let mut last_fence = 1;
    for job in alive {
        let expected = job.claim.clone();
        let (claim, fence) = job.end();
        assert_eq!(claim, expected);
        assert_eq!(fence, last_fence + 1, "a fence is missing: somebody else had the permit");
        last_fence = fence;
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    // They keep their places, and take nothing away.
    assert_eq!(queue(daemon), dead);
    assert_eq!(daemon.look("/api/v1/semaphores/A")["available"], 1);
    let noticed = Instant::now();
    daemon.wait_for_blocked(0);
    assert!(noticed.elapsed() < NOTICED, "{:?}", noticed.elapsed());
}

#[test]
fn killed_jobs_get_nothing() {
    let daemon = Daemon::start(CONFIG);
    the_dead_get_nothing(&daemon, &daemon.url());
}

#[test]
fn killed_jobs_get_nothing_behind_nginx() {
    let daemon = Daemon::start(CONFIG);
    let proxy = Proxy::start(&daemon);
    the_dead_get_nothing(&daemon, &proxy.url());
}

/// Sends a request, and leaves its connection open.
fn begin(address: SocketAddr, method: &str, target: &str, body: &str) -> TcpStream {
    let mut stream = http::connect(address);
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn block(address: SocketAddr, id: &str) -> TcpStream {
    begin(address, "PUT", &format!("/api/v1/claims/{id}?wait=50"), A)
}

#[test]
fn who_comes_back_stands_where_it_stood() {
    let daemon = Daemon::start(CONFIG);
    comes_back(&daemon, daemon.address());
}

#[test]
fn who_comes_back_through_nginx_stands_where_it_stood() {
    let daemon = Daemon::start(CONFIG);
    let proxy = Proxy::start(&daemon);
    comes_back(&daemon, proxy.address());
}

fn comes_back(daemon: &Daemon, address: SocketAddr) {
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let first = block(address, "first");
    daemon.wait_for_blocked(1);
    let second = block(address, "second");
    daemon.wait_for_blocked(2);
    let third = block(address, "third");
    daemon.wait_for_blocked(3);
    drop(first);
    let closed = Instant::now();
    daemon.wait_for_blocked(2);
    assert!(closed.elapsed() < NOTICED, "{:?}", closed.elapsed());
    // Absent: what it asked for is not set aside.
    assert_eq!(daemon.look("/api/v1/claims/first")["position"], 1);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/holder", "").status, 204);
    assert_eq!(http::read_response(second, false).json()["id"], "second");
    let first = block(address, "first");
    daemon.wait_for_blocked(2);
    assert_eq!(queue(daemon), ["first", "third"]);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/second", "").status, 204);
    assert_eq!(http::read_response(first, false).json()["id"], "first");
    drop(third);
}

/// A client is killed and comes back before anybody has noticed: the dead request must not take the living
/// one along.
#[test]
fn a_dead_request_does_not_end_the_one_that_came_back() {
    let daemon = Daemon::start(CONFIG);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let dead = block(daemon.address(), "x");
    daemon.wait_for_blocked(1);
    drop(dead);
    // Found gone, and passed over, though the check has not come round.
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/holder", "").status, 204);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/other", A).status, 201);
    let back = block(daemon.address(), "x");
    daemon.wait_for_blocked(1);
    let behind = block(daemon.address(), "y");
    daemon.wait_for_blocked(2);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/other", "").status, 204);
    assert_eq!(http::read_response(back, false).json()["id"], "x");
    drop(behind);
}

#[test]
fn who_only_watched_leaves_nothing_behind() {
    let daemon = Daemon::start(CONFIG);
    let proxy = Proxy::start(&daemon);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", A).status, 201);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/waiter", A).status, 202);
    let revision = daemon.look("/api/v1/semaphores/B")["revision"].as_u64().unwrap();
    let before = descriptors(daemon.pid());
    for address in [daemon.address(), proxy.address()] {
        let targets = [
            "/api/v1/claims/waiter?wait=50".to_owned(),
            format!("/api/v1/semaphores/B?since={revision}&wait=50"),
        ];
        let watchers: Vec<_> =
            targets.iter().map(|target| begin(address, "GET", target, "")).collect();
        let renewal = begin(address, "POST", "/api/v1/claims/waiter/renew?wait=50", "");
        daemon.wait_for_blocked(3);
        let closed = Instant::now();
        drop((watchers, renewal));
        daemon.wait_for_blocked(0);
        assert!(closed.elapsed() < NOTICED, "{:?}", closed.elapsed());
        poll("their descriptors to go", || (descriptors(daemon.pid()) <= before).then_some(()));
    }
}
