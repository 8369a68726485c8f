//! Certificates: signed by a CA that the machine trusts, for the name in the URL; else nothing is sent.
//!
//! The receiver is openssl's, and the sender runs in a process of its own, for whom a machine trusts is read from
//! `SSL_CERT_FILE` once.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use super::{
    lookups::Lookup,
    presets::{Method, Outgoing},
    testing::NO_CONTENT,
    transport::Transport,
    url::Destination,
};
use crate::model::WallTime;

/// `URL ADDRESS`: what the process sends to.
const SEND: &str = "SEMAPHORED_TEST_TLS";

struct Fixed(SocketAddr);

impl Lookup for Fixed {
    fn addresses(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![self.0])
    }
}

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {output:?}");
}

/// `ca.pem`, and `cert.pem` with `key.pem` for hooks.example, signed by it.
fn certificates(directory: &Path) {
    let extensions = "subjectAltName=DNS:hooks.example\nextendedKeyUsage=serverAuth\n";
    std::fs::write(directory.join("ext"), extensions).unwrap();
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(directory, &format!("{new} -x509 -days 2 -subj /CN=ca -keyout ca.key -out ca.pem"));
    openssl(directory, &format!("{new} -subj /CN=hooks.example -keyout key.pem -out request.pem"));
    openssl(
        directory,
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem",
    );
}

/// Ends with the test.
struct Server(Child, SocketAddr);

impl Server {
    /// Takes connections on a free port and answers each when it is made.
    fn start(directory: &Path) -> Server {
        let mut child = Command::new("openssl")
            .args("s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem".split(' '))
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ")?.parse().ok()).unwrap();
        // It must not be stopped by a pipe that nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        child.stdin.as_mut().unwrap().write_all(NO_CONTENT.as_bytes()).unwrap();
        Server(child, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(url: &str, address: &str) -> String {
    let outgoing = Outgoing {
        method: Method::Post,
        url: Destination::parse(url).unwrap(),
        headers: Vec::new(),
        body: "{}".into(),
    };
    let transport = Transport::with_lookup(Arc::new(Fixed(address.parse().unwrap())));
    let allow = ["127.0.0.0/8".parse().unwrap()];
    let timeout = Duration::from_secs(20);
    format!("{:?}", transport.send(&outgoing, &allow, timeout, WallTime(0), &|| true))
}

#[test]
fn a_certificate_must_be_trusted_and_for_the_name() {
    if let Ok(what) = std::env::var(SEND) {
        let (url, address) = what.split_once(' ').unwrap();
        println!("{}", send(url, address));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let trusted = directory.path().join("ca.pem");
    let other = directory.path().join("other.pem");
    let new =
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -x509 -days 2 -subj /CN=other";
    openssl(directory.path(), &format!("{new} -keyout other.key -out other.pem"));
    for (ca, host, expected) in [
        (&trusted, "hooks.example", "Answered { status: 204 }"),
        (&trusted, "other.example", "certificate not valid for name"),
        (&other, "hooks.example", "UnknownIssuer"),
    ] {
        let server = Server::start(directory.path());
        let name = "callbacks::tls_tests::a_certificate_must_be_trusted_and_for_the_name";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(SEND, format!("https://{host}/ {}", server.1))
            .env("SSL_CERT_FILE", ca)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(expected), "{host}: {said}");
        assert_eq!(said.contains("Failed(Tls)"), !expected.contains("204"), "{host}: {said}");
    }
}
