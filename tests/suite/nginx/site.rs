//! The file itself, and TLS as it says that an admin turns it on.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::{A, CONFIG, Daemon, Proxy};
use crate::proxy::{SITE, check_site, free_address};

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

/// The files that are included need nothing of what stands around them in the site but the upstream.
#[test]
fn a_server_block_of_ones_own_includes_the_rest() {
    let around =
        ["server_name ", "allow ", "deny ", "limit_conn", "server_tokens ", "proxy_read_timeout "];
    let site = SITE.split_once("\nserver {\n").unwrap().1.split_once("\n}\n").unwrap().0;
    let replace: Vec<_> = site
        .lines()
        .filter(|line| around.iter().any(|name| line.trim_start().starts_with(name)))
        .map(|line| (line, ""))
        .collect();
    assert!(replace.len() >= 12, "{replace:?}");
    let daemon = Daemon::start(CONFIG);
    let proxy = Proxy::start_with(daemon.address(), &replace);
    assert_eq!(proxy.call("PUT", "/api/v1/claims/a", A).status, 201);
    let refused = proxy.call("TRACE", "/api", "");
    assert_eq!((refused.status, refused.code().as_str()), (405, "method-not-allowed"));
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

/// The service believes NGINX where a client is, so NGINX must say it and pass on nothing that a client said of it.
#[test]
fn where_a_client_is_is_said_by_nginx_alone() {
    let directives: Vec<&str> = SITE.lines().map(str::trim).collect();
    assert!(directives.contains(&"proxy_pass_request_headers off;"));
    assert!(directives.contains(&"proxy_set_header X-Forwarded-For $remote_addr;"));
    let about = |name: &str| {
        let start = format!("proxy_set_header {name} ");
        directives.iter().filter(|line| line.to_ascii_lowercase().starts_with(&start)).count()
    };
    // One for both locations: in a location with one of its own, none of the server's would count.
    assert_eq!((about("x-forwarded-for"), about("forwarded"), about("x-real-ip")), (1, 0, 0));
}

/// A certificate of an authority that nobody else knows.
struct TlsFiles {
    authority: String,
    certificate: String,
    key: String,
}

impl TlsFiles {
    fn new(directory: &Path) -> TlsFiles {
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
    let proxy = Proxy::start_with(daemon.address(), &replace);
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
