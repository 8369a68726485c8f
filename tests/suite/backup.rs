//! Backup and restore with real processes: what a backup has in it and what it costs others, what a restore gives
//! back and what it never gives out again, and what `semaphorectl backup` leaves on the disk.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    client::{check, closed_port, finish, semaphorectl, start, text},
    contract::Contract,
    daemon::{Daemon, Port, poll},
    http::{Request, connect},
    proxy::Proxy,
};

const BACKUP: &str = "/api/v1/backup";
const SEMAPHORES: &str = "[semaphores]\nA = 2\nW = 1000\n";
const A: &str = r#"{"permits": {"A": 1}}"#;
const W: &str = r#"{"permits": {"W": 1}}"#;
/// Ended claims with which a database is larger than what sockets hold, some 40 MB.
const HISTORY_ROWS: u32 = 150_000;

/// Clients that all want a backup at the same time: one is served.
pub(crate) fn at_the_same_time(contract: &mut Contract) {
    let daemon = Daemon::start("");
    for method in ["GET", "HEAD"] {
        // The one before is over a moment after its client has read the last byte.
        poll("its turn", || {
            (contract.call(&daemon, method, BACKUP, "").status == 200).then_some(())
        });
    }
    let request = Request::new("GET", BACKUP);
    poll("a backup beside another", || {
        let calls = [(); 8].map(|()| daemon.call_later("GET", BACKUP, ""));
        let answers = calls.map(|call| call.join().unwrap());
        answers.iter().for_each(|answer| contract.check(&request, answer));
        answers.iter().any(|answer| answer.status == 409).then_some(())
    });
}

/// Saves a backup; returns the file and its revision.
fn save(daemon: &Daemon, directory: &TempDir, name: &str) -> (PathBuf, u64) {
    let answer = daemon.call("GET", BACKUP, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let path = directory.path().join(name);
    fs::write(&path, &answer.body).unwrap();
    (path, answer.header("Semaphore-Revision").unwrap().parse().unwrap())
}

fn restore(daemon: &Daemon, file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semaphored"));
    command.arg("--restore").arg(file).arg("--data-dir").arg(daemon.data_dir());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(start(&mut command))
}

pub(crate) fn restored(daemon: &Daemon, file: &Path) -> String {
    let output = restore(daemon, file);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Acquires; returns the fence and the revision.
fn acquire(daemon: &Daemon, id: &str, body: &str) -> (u64, u64) {
    let answer = daemon.call("PUT", &format!("/api/v1/claims/{id}"), body);
    assert_eq!(answer.status, 201, "{answer:?}");
    let claim = answer.json();
    let fence = claim["fences"].as_object().unwrap().values().next().unwrap();
    (fence.as_u64().unwrap(), claim["revision"].as_u64().unwrap())
}

fn release(daemon: &Daemon, id: &str) {
    assert_eq!(daemon.call("DELETE", &format!("/api/v1/claims/{id}"), "").status, 204);
}

fn state(daemon: &Daemon, id: &str) -> Value {
    let answer = daemon.call("GET", &format!("/api/v1/claims/{id}"), "");
    if answer.status == 404 { Value::Null } else { answer.json()["state"].clone() }
}

/// Every file in the data directory but the lock, with what is in it.
fn content(daemon: &Daemon) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(daemon.data_dir()).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name != "lock")
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

/// A daemon with a long history.
fn with_history(config: &str) -> Daemon {
    let mut daemon = Daemon::start(config);
    acquire(&daemon, "first", W);
    release(&daemon, "first");
    daemon.stop();
    let connection = Connection::open(daemon.data_dir().join("semaphored.db")).unwrap();
    // As the fold writes them, with numbers below those that the daemon gives out.
    let rows = format!(
        "PRAGMA synchronous = off;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {HISTORY_ROWS})
         INSERT INTO history (sequence, id, permits, labels, priority, queued_at, ended_at, reason,
             revision, ttl, offer_ttl, has_callback, fingerprint)
         SELECT -i, 'old-' || i, '{{\"W\":1}}', '{{}}', 0, 0, 1, 'cancelled', 1, 300000, 60000, 0, zeroblob(32)
         FROM n"
    );
    connection.execute_batch(&rows).unwrap();
    connection.close().unwrap();
    daemon.start_again(Port::Same);
    daemon
}

/// Asks for a backup and takes nothing of it but the head.
fn stalled_backup(daemon: &Daemon) -> impl Read + use<> {
    let mut stream = connect(daemon.address());
    write!(stream, "GET {BACKUP} HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

#[test]
fn a_backup_under_load_has_all_that_was_answered_before() {
    let mut daemon = Daemon::start(SEMAPHORES);
    let directory = tempfile::tempdir().unwrap();
    let over = AtomicBool::new(false);
    let backups = thread::scope(|scope| {
        for worker in 0..4 {
            let (daemon, over) = (&daemon, &over);
            scope.spawn(move || {
                for number in (0..).take_while(|_| !over.load(Ordering::Relaxed)) {
                    let id = format!("load-{worker}-{number}");
                    let acquired = daemon.call("PUT", &format!("/api/v1/claims/{id}?wait=10"), A);
                    assert!(matches!(acquired.status, 200..=202), "{acquired:?}");
                    release(daemon, &id);
                }
            });
        }
        let mut backups = Vec::new();
        for number in 0..6 {
            let (_, held) = acquire(&daemon, &format!("held-{number}"), W);
            acquire(&daemon, &format!("released-{number}"), W);
            release(&daemon, &format!("released-{number}"));
            let (file, revision) = save(&daemon, &directory, &format!("{number}.db"));
            assert!(revision > held, "{revision} {held}");
            acquire(&daemon, &format!("later-{number}"), W);
            backups.push(file);
        }
        over.store(true, Ordering::Relaxed);
        backups
    });
    for (number, file) in backups.iter().enumerate() {
        daemon.stop();
        restored(&daemon, file);
        // It starts only where the state breaks no rule.
        daemon.start_again(Port::New);
        for earlier in 0..=number {
            assert_eq!(state(&daemon, &format!("held-{earlier}")), "held");
            assert_eq!(state(&daemon, &format!("released-{earlier}")), "ended");
        }
        assert_eq!(state(&daemon, &format!("later-{number}")), Value::Null);
        let a = daemon.look("/api/v1/semaphores/A");
        assert!(a["in_use"].as_u64().unwrap() <= 2, "{a}");
    }
}

#[test]
fn nothing_is_given_out_twice_after_a_restore() {
    let mut daemon = Daemon::start(SEMAPHORES);
    let directory = tempfile::tempdir().unwrap();
    acquire(&daemon, "kept", A);
    acquire(&daemon, "gone-since", W);
    assert_eq!(daemon.call("PUT", "/api/v1/semaphores/T", r#"{"capacity": 3}"#).status, 201);
    let (file, revision) = save(&daemon, &directory, "b.db");
    // Since then: more fences, and a semaphore that had its own and is gone.
    let (mut fence, mut last) = (0, revision);
    for number in 0..20 {
        for (semaphore, body) in [("W", W), ("T", r#"{"permits": {"T": 1}}"#)] {
            let id = format!("since-{semaphore}-{number}");
            let (taken, at) = acquire(&daemon, &id, body);
            (fence, last) = (fence.max(taken), last.max(at));
            release(&daemon, &id);
        }
    }
    release(&daemon, "gone-since");
    assert_eq!(daemon.call("DELETE", "/api/v1/semaphores/T", "").status, 204);
    daemon.kill();
    let before = content(&daemon);
    assert!(!before["semaphored.db-wal"].is_empty(), "a stale log is there");

    let said = restored(&daemon, &file);
    assert!(said.contains(&format!("{revision} in the backup")), "{said}");
    assert!(said.contains("claims      2 held, 0 offered, 0 waiting"), "{said}");
    let after = content(&daemon);
    let aside = after.keys().find(|name| name.contains(".before-restore-")).unwrap();
    assert!(said.contains(aside.trim_end_matches("-wal").trim_end_matches("-shm")), "{said}");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(daemon.data_dir().join("semaphored.db")), 0o600);

    daemon.start_again(Port::New);
    // Held again with a full lease, whether it has ended since or not; what came since is unknown.
    for id in ["kept", "gone-since"] {
        let claim = daemon.look(&format!("/api/v1/claims/{id}"));
        assert_eq!(claim["state"], "held");
        assert!(claim["expires_in_seconds"].as_f64().unwrap() > 200.0, "{claim}");
    }
    assert_eq!(state(&daemon, "since-W-3"), Value::Null);
    for (id, body) in [("a", A), ("w", W), ("t", r#"{"permits": {"T": 1}}"#)] {
        let (taken, at) = acquire(&daemon, id, body);
        assert!(taken > fence && at > last, "{taken} {fence}, {at} {last}");
        (fence, last) = (fence.max(if id == "a" { 0 } else { taken - 1 }), at);
    }

    // The machine is lost: nothing but the backup is there.
    daemon.kill();
    fs::remove_dir_all(daemon.data_dir()).unwrap();
    let said = restored(&daemon, &file);
    assert!(said.contains("there was no database here"), "{said}");
    daemon.start_again(Port::New);
    let (taken, at) = acquire(&daemon, "again", W);
    assert!(taken > 1_000_000_000 && at > 1_000_000_000, "{taken} {at}");
}

#[test]
fn a_restore_that_is_refused_changes_nothing() {
    let mut daemon = Daemon::start(SEMAPHORES);
    let directory = tempfile::tempdir().unwrap();
    acquire(&daemon, "a", A);
    let (file, _) = save(&daemon, &directory, "good.db");
    let running = restore(&daemon, &file);
    assert_eq!(running.status.code(), Some(75));
    assert!(text(&running.stderr).contains("stop it first"), "{}", text(&running.stderr));
    daemon.stop();
    let before = content(&daemon);
    let good = fs::read(&file).unwrap();
    let newer = [&good[..60], &1_000_u32.to_be_bytes(), &good[64..]].concat();
    let cases: [(&str, &[u8], i32, &str); 5] = [
        ("text.db", b"SQLite? No.", 65, "is not a database of semaphored"),
        ("empty.db", b"", 65, "it is empty"),
        ("half.db", &good[..good.len() / 2], 65, "restore another backup"),
        ("newer.db", &newer, 65, "with the version that made it"),
        ("none.db", b"", 66, "cannot read the backup"),
    ];
    for (name, bytes, code, expected) in cases {
        let path = directory.path().join(name);
        if code != 66 {
            fs::write(&path, bytes).unwrap();
        }
        let output = restore(&daemon, &path);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains(name), "{stderr}");
        assert_eq!(text(&output.stdout), "");
        assert!(content(&daemon) == before, "{name} has changed something");
    }
    daemon.start_again(Port::New);
    assert_eq!(state(&daemon, "a"), "held");
}

#[test]
fn one_backup_at_a_time_and_no_rubbish() {
    let mut daemon = with_history(SEMAPHORES);
    let stalled = stalled_backup(&daemon);
    let second = daemon.call("GET", BACKUP, "");
    assert_eq!((second.status, second.code().as_str()), (409, "backup-running"));
    assert!(second.header("Retry-After").is_some());
    let mut client = semaphorectl(&["backup", "--url", &daemon.url(), "--output", "-"]);
    assert!(check(&mut client, 75).contains("a backup is under way already"));
    // It has no name any more, and others are served beside it.
    assert!(!daemon.data_dir().join("backup.tmp").exists());
    acquire(&daemon, "beside", W);
    drop(stalled);
    poll("the turn of the client that has gone", || {
        (daemon.send(&Request::new("HEAD", BACKUP)).status == 200).then_some(())
    });

    // Killed while it copies, if that is caught; and what any kill may have left.
    let copy = daemon.data_dir().join("backup.tmp");
    let mut stream = connect(daemon.address());
    write!(stream, "GET {BACKUP} HTTP/1.1\r\nHost: s\r\n\r\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    while !copy.exists() && Instant::now() < deadline {}
    if let Ok(metadata) = fs::metadata(&copy) {
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    daemon.kill();
    fs::write(daemon.data_dir().join("backup.tmp-journal"), "half").unwrap();
    fs::write(&copy, "half").unwrap();
    daemon.start_again(Port::New);
    let left: Vec<_> = content(&daemon).into_keys().filter(|n| n.starts_with("backup")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(state(&daemon, "beside"), "held");
}

#[test]
fn a_stop_does_not_wait_for_a_backup_that_nobody_takes() {
    let mut daemon = with_history(SEMAPHORES);
    let stalled = stalled_backup(&daemon);
    let started_at = Instant::now();
    daemon.stop();
    assert!(started_at.elapsed() < Duration::from_secs(10), "{:?}", started_at.elapsed());
    drop(stalled);
}

#[test]
fn a_release_is_hardly_slower_beside_a_backup() {
    let daemon = with_history(SEMAPHORES);
    let median = |name: &str| {
        let mut times: Vec<_> = (0..200)
            .map(|number| {
                let id = format!("{name}-{number}");
                acquire(&daemon, &id, W);
                let started_at = Instant::now();
                release(&daemon, &id);
                started_at.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let alone = median("alone");
    let over = AtomicBool::new(false);
    let (beside, backups) = thread::scope(|scope| {
        let backups = scope.spawn(|| {
            let mut backups = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(daemon.call("GET", BACKUP, "").status, 200);
                backups += 1;
            }
            backups
        });
        let beside = median("beside");
        over.store(true, Ordering::Relaxed);
        (beside, backups.join().unwrap())
    });
    assert!(backups > 0);
    println!("alone {alone:?}, beside {backups} backups {beside:?}");
    assert!(beside < alone * 5 + Duration::from_millis(10), "{beside:?}, alone {alone:?}");
}

#[test]
fn the_client_saves_a_file_whole_private_and_once() {
    let mut daemon = Daemon::start(SEMAPHORES);
    acquire(&daemon, "a", A);
    let directory = tempfile::tempdir().unwrap();
    let backup = |arguments: &[&str]| {
        let mut command = semaphorectl(&["backup", "--url", &daemon.url()]);
        command.args(arguments).current_dir(directory.path());
        finish(start(&mut command))
    };
    let names = || {
        let entries = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let first = backup(&[]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let [name] = &names()[..] else { panic!("{:?}", names()) };
    let path = directory.path().join(name);
    let bytes = fs::metadata(&path).unwrap().len();
    let revision = name.trim_start_matches("semaphored-").trim_end_matches(".db");
    let said = format!("{name}: {bytes} bytes, all up to revision {revision}\n");
    assert_eq!(text(&first.stdout), said);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let written = fs::read(&path).unwrap();
    let again = backup(&["--output", name]);
    assert_eq!(again.status.code(), Some(74));
    assert!(text(&again.stderr).contains("--force replaces it"), "{}", text(&again.stderr));
    assert!(fs::read(&path).unwrap() == written);
    let forced = backup(&["--force", "--output", name, "--json"]);
    let json: Value = serde_json::from_slice(&forced.stdout).unwrap();
    assert_eq!(json["file"], **name);
    // Each backup is a row of the audit log, and so a change.
    assert!(json["revision"].as_u64() > revision.parse().ok());
    let out = backup(&["--output", "-"]);
    assert!(out.stdout.starts_with(b"SQLite format 3\0"));
    assert!(text(&out.stderr).contains("all up to revision"), "{}", text(&out.stderr));
    fs::create_dir(directory.path().join("sub")).unwrap();
    assert!(backup(&["--output", "sub"]).status.success());
    let in_sub = fs::read_dir(directory.path().join("sub")).unwrap().next().unwrap().unwrap();
    assert!(in_sub.file_name().to_str().unwrap().starts_with("semaphored-"), "{in_sub:?}");
    assert_eq!(backup(&["--output", "missing/b.db"]).status.code(), Some(74));
    assert_eq!(names(), [name.as_str(), "sub"]);

    let (_port, url) = closed_port();
    let mut command = semaphorectl(&["backup", "--url", &url, "--output", "other.db"]);
    check(command.current_dir(directory.path()), 69);
    assert_eq!(names(), [name.as_str(), "sub"]);
    daemon.stop();
    restored(&daemon, &path);
    daemon.start_again(Port::New);
    assert_eq!(state(&daemon, "a"), "held");
}

#[test]
fn a_large_backup_comes_whole_through_nginx() {
    let mut daemon = with_history(SEMAPHORES);
    acquire(&daemon, "a", A);
    let proxy = Proxy::start(&daemon);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.db");
    let name = path.to_str().unwrap();
    check(&mut semaphorectl(&["backup", "--url", &proxy.url(), "--output", name]), 0);
    let direct = daemon.call("GET", BACKUP, "");
    assert_eq!(fs::metadata(&path).unwrap().len(), direct.body.len() as u64);
    daemon.stop();
    restored(&daemon, &path);
    daemon.start_again(Port::New);
    assert_eq!(state(&daemon, "a"), "held");
}

#[test]
fn no_room_is_told_with_its_numbers() {
    let daemon = Daemon::start("[limits]\nfree_bytes_min = 1000000000000000000\n");
    let answer = daemon.call("GET", BACKUP, "");
    assert_eq!((answer.status, answer.code().as_str()), (503, "backup-no-space"));
    let needed = answer.json()["needed_bytes"].as_u64().unwrap();
    assert!(needed > 1_000_000_000_000_000_000, "{needed}");
    let mut client = semaphorectl(&["backup", "--url", &daemon.url(), "--output", "-"]);
    let said = check(&mut client, 65);
    assert!(said.contains("free some space there"), "{said}");
}
