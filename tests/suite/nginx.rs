//! The service behind NGINX, as it is installed: what reaches it, what does not, and who keeps waiting.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    daemon::{Daemon, Port, poll},
    http::{self, Request, Response},
    proxy::{Proxy, SITE, check_site, descriptors, free_address},
};

const CONFIG: &str = "[semaphores]\nA = 1\n";
const A: &str = r#"{"permits": {"A": 1}}"#;

fn start() -> (Daemon, Proxy) {
    let daemon = Daemon::start(CONFIG);
    let proxy = Proxy::start(&daemon);
    (daemon, proxy)
}

/// Sends a PUT of a claim that blocks, and leaves its connection open.
fn block(address: SocketAddr, id: &str, wait_seconds: u32) -> TcpStream {
    let mut stream = http::connect(address);
    let length = A.len();
    let request = format!(
        "PUT /api/v1/claims/{id}?wait={wait_seconds} HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{A}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn the_site_is_well_formed_as_shipped_and_with_tls() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = TlsFiles::new(directory.path());
    for replace in [Vec::new(), certificate.replacements(&free_address().to_string())] {
        let replace: Vec<_> = replace.iter().map(|(from, to)| (*from, to.as_str())).collect();
        let output = check_site(directory.path(), &replace);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("[warn]"), "{said}");
    }
}

/// Every header that the service reads has to be in the site, or it works without NGINX only.
#[test]
fn the_headers_that_the_service_reads_are_passed_on() {
    let site = SITE.to_ascii_lowercase();
    let mut read = BTreeSet::new();
    for file in fs::read_dir("src/http_interface").unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        let names = source.split(".values(\"").skip(1);
        read.extend(names.map(|text| text.split('"').next().unwrap().to_owned()));
    }
    // NGINX frames bodies itself.
    assert!(read.remove("content-length") && read.remove("transfer-encoding"));
    assert!(read.len() >= 2, "look where headers are read now: {read:?}");
    for name in read {
        assert!(site.contains(&format!("proxy_set_header {name} ")), "{name}");
    }
}

#[test]
fn a_claim_is_acquired_waits_is_handed_over_and_released() {
    let (daemon, proxy) = start();
    let held = proxy.call("PUT", "/api/v1/claims/first", A);
    assert_eq!((held.status, &held.json()["state"]), (201, &"held".into()));
    let next = proxy.call_later("PUT", "/api/v1/claims/next?wait=50", A);
    poll("a wait of some seconds", || {
        let claim = daemon.call("GET", "/api/v1/claims/next", "").json();
        (claim["waited_seconds"].as_f64()? >= 3.0).then_some(())
    });
    let released = Instant::now();
    assert_eq!(proxy.call("DELETE", "/api/v1/claims/first", "").status, 204);
    let next = next.join().unwrap();
    assert_eq!((next.status, &next.json()["state"]), (201, &"held".into()));
    assert!(released.elapsed() < Duration::from_secs(1), "{:?}", released.elapsed());
    assert_eq!(proxy.call("POST", "/api/v1/claims/next/renew", "").status, 200);
    let released = proxy.call("DELETE", "/api/v1/claims/next", "");
    assert_eq!((released.status, released.body.len()), (204, 0));
    assert!(released.header("Semaphore-Revision").is_some());
    assert_eq!(daemon.look("/api/v1/semaphores/A")["in_use"], 0);

    // A wait that is over before anything happened, asked for by a header.
    assert_eq!(proxy.call("PUT", "/api/v1/claims/third", A).status, 201);
    let request = Request::json("PUT", "/api/v1/claims/fourth", A).with("Prefer", "wait=1");
    let waited = http::send(proxy.address(), &request);
    assert_eq!((waited.status, &waited.json()["state"]), (202, &"waiting".into()));
    assert_eq!(waited.header("Preference-Applied"), Some("wait=1"));
}

/// What the service answers comes through as it is, errors included.
#[test]
fn answers_pass_unchanged() {
    let (daemon, proxy) = start();
    let long = format!("/api/v1/{}", "a".repeat(5_000));
    let requests = [
        Request::json("PUT", "/api/v1/claims/a", A),
        Request::json("PUT", "/api/v1/claims/a", r#"{"permits": {"B": 1}}"#),
        Request::json("PUT", "/api/v1/claims/b", r#"{"permits": {"B": 1}}"#),
        Request::json("PUT", "/api/v1/claims/b", r#"{"permits": {"A": 1}, "queue": false}"#),
        Request::json("PUT", "/api/v1/claims/b", "{"),
        Request::json("PUT", "/api/v1/claims/b", r#"{"permit": {}}"#),
        Request::new("PUT", "/api/v1/claims/b").with_body("text/plain", A),
        Request::new("PATCH", "/api/v1/claims/b"),
        Request::new("GET", "/api/v1/claims/b?x=%C3%A9"),
        Request::new("GET", "/api/v1/claims/%C3%A9"),
        Request::new("GET", "/nothing"),
        Request::new("HEAD", "/openapi.json"),
        Request::new("GET", "/openapi.json"),
        Request::new("GET", &long),
    ];
    let mut statuses = BTreeSet::new();
    for request in requests {
        let direct = daemon.send(&request);
        let through = http::send(proxy.address(), &request);
        let what = format!("{} {:.60}", request.method, request.target);
        if direct.status == 201 {
            assert_eq!((through.status, &through.json()["id"]), (200, &"a".into()));
            continue;
        }
        assert_eq!((through.status, &through.body), (direct.status, &direct.body), "{what}");
        for name in ["Content-Type", "Content-Length", "Cache-Control", "Allow", "Retry-After"] {
            assert_eq!(through.header(name), direct.header(name), "{what}: {name}");
        }
        statuses.insert(through.status);
    }
    assert_eq!(statuses, BTreeSet::from([200, 400, 404, 405, 409, 414, 415, 422]));
}

/// The head of a PUT that would take a permit, if its framing were accepted.
fn put(more: &str) -> Vec<u8> {
    let head =
        "PUT /api/v1/claims/smuggled HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    format!("{head}{more}").into_bytes()
}

/// Requests that two programs could read in two ways, or that harm the service's HTTP library.
fn hostile() -> Vec<(&'static str, u16, Vec<u8>)> {
    let length = A.len();
    let with_length = |length: &str| put(&format!("Content-Length: {length}\r\n\r\n{A}"));
    let target = "GET /api/v1/claims/\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    vec![
        ("a sign before the length", 400, with_length(&format!("+{length}"))),
        ("a letter after the length", 400, with_length(&format!("{length}x"))),
        ("a list of lengths", 400, with_length(&format!("{length}, {length}"))),
        ("no length", 400, with_length("")),
        ("two lengths", 400, with_length(&format!("{length}\r\nContent-Length: 1"))),
        (
            "the same length twice",
            400,
            with_length(&format!("{length}\r\nContent-Length: {length}")),
        ),
        (
            "a length and chunks",
            400,
            put("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunks and a length",
            400,
            put("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ),
        ("a space before the colon", 400, put(&format!("Content-Length : {length}\r\n\r\n{A}"))),
        (
            "a folded header",
            400,
            put(&format!("X: a\r\n b\r\nContent-Length: {length}\r\n\r\n{A}")),
        ),
        ("a coding that is none", 501, put("Transfer-Encoding: identity\r\n\r\n")),
        ("an unknown coding", 501, put("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("a length beyond all memory", 413, put("Content-Length: 1000000000000000\r\n\r\n")),
        ("a body that is too long", 413, put("Content-Length: 65537\r\n\r\n")),
        ("an HTTP/2 request line", 505, b"GET /api HTTP/2.0\r\nHost: x\r\n\r\n".to_vec()),
        ("the HTTP/2 preface", 400, preface.as_bytes().to_vec()),
        ("non-ASCII in the target", 400, target.as_bytes().to_vec()),
        ("non-ASCII in a header", 400, put("User-Agent: \u{e9}\r\nContent-Length: 0\r\n\r\n")),
        ("a control character in a header", 400, put("Prefer: \u{1}\r\nContent-Length: 0\r\n\r\n")),
        ("no host", 400, b"GET /api HTTP/1.1\r\n\r\n".to_vec()),
        ("a method that echoes", 405, b"TRACE /api HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a tunnel", 400, b"CONNECT a:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "a target that is too long",
            414,
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9_000)).into_bytes(),
        ),
        (
            "a header that is too long",
            431,
            format!("GET /api HTTP/1.1\r\nX: {}\r\nHost: x\r\n\r\n", "a".repeat(9_000))
                .into_bytes(),
        ),
        ("no HTTP at all", 400, b"hello\r\n\r\n".to_vec()),
    ]
}

#[test]
fn hostile_requests_end_at_nginx() {
    let (daemon, proxy) = start();
    let before = daemon.look("/api/v1/service")["revision"].clone();
    let mut checked = 0;
    for (what, status, bytes) in hostile() {
        let answer = http::exchange(proxy.address(), &bytes, false);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_problem(&answer, what);
        let access = proxy.access(&answer);
        assert!(access.ends_with(" us=- ut=-"), "{what} reached the service: {access}");
        assert_eq!(proxy.call("GET", "/healthz", "").status, 200, "after {what}");
        checked += 1;
    }
    assert!(checked >= 20);
    assert_eq!(daemon.look("/api/v1/service")["revision"], before);
    assert_eq!(daemon.call("GET", "/api/v1/claims/smuggled", "").status, 404);
}

/// What is unusual and right gets through, in a form that nobody can mistake.
#[test]
fn chunks_are_put_together_and_unknown_headers_left_out() {
    let (daemon, proxy) = start();
    let size = A.len();
    let chunked = put(&format!(
        "Transfer-Encoding: chunked\r\nForwarded: for=x\r\nX-Forwarded-For: 1.2.3.4\r\n\
         Expect: 100-continue\r\nUpgrade: websocket\r\nX-Name: \u{e9}\r\n\r\n{size:x}\r\n{A}\r\n0\r\n\r\n"
    ));
    let answer = http::exchange(proxy.address(), &chunked, false);
    assert_eq!((answer.status, &answer.json()["id"]), (201, &"smuggled".into()));
    assert!(proxy.access(&answer).contains(" us=201 "));
    assert_eq!(daemon.call("GET", "/api/v1/claims/smuggled", "").status, 200);
    let named = Request::new("GET", "/healthz").with("X-Request-Id", "build-412.7");
    let answer = http::send(proxy.address(), &named);
    assert_eq!(answer.header("X-Request-Id"), Some("build-412.7"));
    let odd = Request::new("GET", "/healthz").with("X-Request-Id", "a b");
    assert_ne!(http::send(proxy.address(), &odd).header("X-Request-Id"), Some("a b"));
}

/// An error of NGINX's own is a problem document like those of the service.
fn assert_problem(answer: &Response, what: &str) {
    let code = answer.code();
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{what}");
    assert!(problem["title"].is_string(), "{what}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{what}");
    assert_ne!(code, "proxy-failed", "{what}: {problem}");
    assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{what}");
}

#[test]
fn a_service_that_is_away_is_a_problem_document() {
    let (mut daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/a", A).status, 201);
    // What it says itself while it stops comes through; 503 is not taken for a reason to ask elsewhere.
    let waits = proxy.call_later("PUT", "/api/v1/claims/b?wait=50", A);
    daemon.wait_for_blocked(1);
    daemon.stop();
    let told = waits.join().unwrap();
    assert_eq!((told.status, told.code().as_str()), (503, "stopping"));
    assert_eq!(told.header("Retry-After"), Some("1"));
    for (method, body) in [("GET", ""), ("PUT", A), ("DELETE", "")] {
        let answer = proxy.call(method, "/api/v1/claims/a", body);
        assert_eq!((answer.status, answer.code().as_str()), (502, "service-unreachable"));
        assert_problem(&answer, method);
        assert_eq!(answer.header("Retry-After"), Some("1"));
    }
    daemon.start_again(Port::Same);
    // At once: NGINX does not take the only server for dead.
    assert_eq!(proxy.call("PUT", "/api/v1/claims/a", A).status, 200);
    assert_eq!(proxy.call("POST", "/api/v1/claims/a/renew", "").status, 200);
}

#[test]
fn bounds_of_nginx_are_problem_documents() {
    let daemon = Daemon::start(CONFIG);
    let replace = [
        ("proxy_read_timeout 75s;", "proxy_read_timeout 1s;"),
        ("location = /metrics {\n        allow 127.0.0.1;", "location = /metrics {"),
    ];
    let proxy = Proxy::start_with(&daemon, &replace);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let late = proxy.call("PUT", "/api/v1/claims/late?wait=50", A);
    assert_eq!((late.status, late.code().as_str()), (504, "no-answer-in-time"));
    assert_problem(&late, "late");
    assert_eq!(late.header("Retry-After"), Some("1"));
    let outside = proxy.call("GET", "/metrics", "");
    assert_eq!((outside.status, outside.code().as_str()), (403, "not-from-here"));
    assert_problem(&outside, "outside");

    for (limit, small) in [
        ("semaphored_addresses 1000;", "semaphored_addresses 2;"),
        ("semaphored_waiting 300;", "semaphored_waiting 2;"),
    ] {
        let proxy = Proxy::start_with(&daemon, &[(limit, small)]);
        let ids = ["x", "y"].map(|name| format!("{name}-{}", &limit[11..14]));
        let waiting = ids.each_ref().map(|id| block(proxy.address(), id, 50));
        poll("two waits", || {
            let seen = ids
                .iter()
                .all(|id| daemon.call("GET", &format!("/api/v1/claims/{id}"), "").status == 200);
            seen.then_some(())
        });
        let third = proxy.call("PUT", "/api/v1/claims/z?wait=50", A);
        assert_eq!((third.status, third.code().as_str()), (429, "too-many-connections"));
        assert_problem(&third, limit);
        assert_eq!(third.header("Retry-After"), Some("5"));
        // Those that do not wait get through where only waiting ones are too many.
        let status = proxy.call("POST", "/api/v1/claims/holder/renew", "").status;
        assert_eq!(status, if limit.contains("waiting") { 200 } else { 429 });
        drop(waiting);
    }
}

#[test]
fn a_reload_of_nginx_takes_no_place_away() {
    let (daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let waiters: Vec<_> = (0..20)
        .map(|number| {
            let stream = block(proxy.address(), &format!("waiter-{number}"), 50);
            daemon.wait_for_blocked(number + 1);
            stream
        })
        .collect();
    let old = proxy.reload();
    // The new ones serve, and the waits go on in the old ones.
    assert_eq!(proxy.call("GET", "/api/v1/semaphores/A", "").json()["waiting"], 20);
    assert_eq!(daemon.look("/api/v1/service")["waiting_requests"], 20);
    let mut holder = "holder".to_owned();
    for (number, stream) in waiters.into_iter().enumerate() {
        assert_eq!(proxy.call("DELETE", &format!("/api/v1/claims/{holder}"), "").status, 204);
        let answer = http::read_response(stream, false);
        holder = format!("waiter-{number}");
        assert_eq!((answer.status, &answer.json()["id"]), (201, &holder.as_str().into()));
    }
    poll("the end of the old workers", || proxy.workers().is_disjoint(&old).then_some(()));
}

/// NGINX sees at once that a client is gone, and closes its connection to the service. The service holds the
/// request until its wait is over; then nothing of it is left either.
#[test]
fn clients_that_hang_up_leave_no_descriptor_behind() {
    let (daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/holder", A).status, 201);
    // What stays open for good: NGINX's kept connections to the service.
    let at_rest = || (proxy.descriptors(), descriptors(daemon.pid()));
    let before = at_rest();
    let waiters: Vec<_> =
        (0..20).map(|number| block(proxy.address(), &format!("waiter-{number}"), 3)).collect();
    daemon.wait_for_blocked(20);
    // Two for each, but for a kept connection that was there already.
    assert!(proxy.descriptors() >= before.0 + 38);
    drop(waiters);
    poll("nginx to close what is left of them", || (proxy.descriptors() <= before.0).then_some(()));
    daemon.wait_for_blocked(0);
    poll("the service to close what is left of them", || {
        let now = at_rest();
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
    assert_eq!(proxy.call("GET", "/healthz", "").status, 200);
}

/// Bursts of new connections, which tiny_http would leave behind (`web_server::kick`), beside long-polls that
/// hold theirs, and through connections that NGINX keeps.
#[test]
fn bursts_through_kept_connections_are_all_answered_within_a_second() {
    let (daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let waiters: Vec<_> =
        (0..32).map(|number| block(proxy.address(), &format!("waiter-{number}"), 50)).collect();
    daemon.wait_for_blocked(32);
    let mut open = Vec::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let address = proxy.address();
        let threads: Vec<_> = (0..8).map(|_| thread::spawn(move || burst(address))).collect();
        for thread in threads {
            let (took, streams) = thread.join().unwrap();
            slowest = slowest.max(took);
            open.extend(streams);
        }
    }
    println!("slowest answer: {slowest:?}");
    assert_eq!(open.len(), 640);
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(daemon.look("/api/v1/service")["waiting_requests"], 32);
    drop(waiters);
}

/// Eight connections at once that stay open; gives the slowest answer.
fn burst(address: SocketAddr) -> (Duration, Vec<TcpStream>) {
    let started = Instant::now();
    let mut streams: Vec<_> = (0..8).map(|_| http::connect(address)).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    for stream in &streams {
        assert_eq!(http::read_response(stream, false).status, 200);
    }
    (started.elapsed(), streams)
}

/// A certificate of an authority that nobody else knows.
struct TlsFiles {
    authority: String,
    certificate: String,
    key: String,
}

impl TlsFiles {
    fn new(directory: &std::path::Path) -> TlsFiles {
        let script = "set -e; cd \"$0\"
            new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
            openssl req -x509 $new -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority
            openssl req $new -keyout key.pem -out request.pem -subj /CN=semaphore
            printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >extensions
            openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile extensions -out certificate.pem";
        let output = Command::new("sh").args(["-c", script]).arg(directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = |name| directory.join(name).to_str().unwrap().to_owned();
        TlsFiles {
            authority: path("ca.pem"),
            certificate: path("certificate.pem"),
            key: path("key.pem"),
        }
    }

    /// What turns TLS on, as the site says that an admin does it.
    fn replacements(&self, listen: &str) -> Vec<(&'static str, String)> {
        vec![
            ("\n    #TLS ", "\n    ".to_owned()),
            ("listen 443 ssl;", format!("listen {listen} ssl;")),
            ("listen [::]:443 ssl;", String::new()),
            ("/etc/ssl/semaphored/fullchain.pem", self.certificate.clone()),
            ("/etc/ssl/semaphored/key.pem", self.key.clone()),
        ]
    }
}

#[test]
fn a_job_runs_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let tls = TlsFiles::new(directory.path());
    let daemon = Daemon::start(CONFIG);
    let address = free_address().to_string();
    let replace = tls.replacements(&address);
    let replace: Vec<_> = replace.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let proxy = Proxy::start_with(&daemon, &replace);
    let output = Command::new(env!("CARGO_BIN_EXE_semaphorectl"))
        .args(["run", "A", "--", "sh", "-c", "echo $SEMAPHORE_FENCES"])
        .env("SEMAPHORE_URL", format!("https://{address}"))
        .env("SSL_CERT_FILE", &tls.authority)
        .env_remove("SEMAPHORE_CLAIM_ID")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?} {}", proxy.error_log());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"A\":1}\n");
}
