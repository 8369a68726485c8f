//! The daemon and a disk that fails: a full one, a database that is damaged, newer or somebody else's.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use rusqlite::Connection;

use super::{
    daemon::{Daemon, Port, poll},
    http::{self, Request},
};

const CONFIG: &str = "[semaphores]\nA = 100000";
/// Sets what is folded to a blob whose checksum is wrong.
const MARKS: &str = "UPDATE meta SET marks = x'010000006457984777ca2aae'";
const STORAGE_FAILED: i32 = 74;
/// Another start will not mend it: not to be tried again.
const REFUSED: i32 = 65;

/// Starts the daemon on these data under a shell's `prelude`, which may limit it; logs to `log`.
fn start_under(prelude: &str, daemon: &Daemon, log: &Path) -> Child {
    Command::new("sh")
        .args(["-c", &format!("{prelude}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_semaphored")])
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(daemon.data_dir())
        .arg("--config")
        .arg(daemon.config_file())
        .env_remove("RUST_LOG")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(log).unwrap())
        .spawn()
        .unwrap()
}

/// A process that is killed when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // After a wait these do nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The write fails in the middle of a burst of requests: what was answered is there at the next start, the
/// process says so and ends with the code that stands in the documentation.
#[test]
fn a_full_disk_ends_the_daemon_and_undoes_no_answer() {
    let mut daemon = Daemon::start(CONFIG);
    daemon.stop();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    // No file may grow above 2,048 blocks of 512 or 1,024 bytes. With the signal ignored a write fails.
    let mut limited = Running(start_under("trap '' XFSZ; ulimit -f 2048", &daemon, &log));
    let text = || fs::read_to_string(&log).unwrap();
    let address = poll("the address", || {
        let text = text();
        let line = text.lines().find(|line| line.contains("listening on "))?;
        line.rsplit(' ').next()?.parse().ok()
    });
    let body = format!(r#"{{"permits": {{"A": 1}}, "holder": "{}"}}"#, "h".repeat(500));
    let answered = Mutex::new(Vec::new());
    let status = std::thread::scope(|scope| {
        for client in 0..4 {
            let (answered, body) = (&answered, &body);
            scope.spawn(move || {
                for number in 0.. {
                    let target = format!("/api/v1/claims/c{client}-{number}");
                    let request = Request::json("PUT", &target, body);
                    let Some(status) = http::try_send(address, &request) else { return };
                    assert_eq!(status, 201);
                    answered.lock().unwrap().push(target);
                }
            });
        }
        poll("the end of the process", || limited.0.try_wait().unwrap())
    });
    assert_eq!(status.code(), Some(STORAGE_FAILED), "{}", text());
    assert!(text().contains("storage failed, nothing is answered any more"), "{}", text());

    daemon.start_again(Port::New);
    let answered = answered.into_inner().unwrap();
    assert!(answered.len() > 50, "{} claims before the disk was full", answered.len());
    for target in answered {
        assert_eq!(daemon.look(&target)["state"], "held");
    }
}

#[test]
fn a_database_that_cannot_be_used_is_refused_and_left_as_it_is() {
    let mut daemon = Daemon::start(CONFIG);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/x", r#"{"permits": {"A": 1}}"#).status, 201);
    daemon.stop();
    let database = daemon.data_dir().join("semaphored.db");
    let good = fs::read(&database).unwrap();
    let sql = |statement: &str| Connection::open(&database).unwrap().execute_batch(statement);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    type Damage<'d> = Box<dyn Fn() + 'd>;
    let cases: [(&str, i32, Damage<'_>); 5] = [
        ("has schema version 99", REFUSED, Box::new(|| sql("PRAGMA user_version = 99").unwrap())),
        (
            "is not a database of semaphored",
            REFUSED,
            Box::new(|| fs::write(&database, "hello").unwrap()),
        ),
        (
            "is not a database of semaphored",
            REFUSED,
            Box::new(|| sql("PRAGMA application_id = 7").unwrap()),
        ),
        (
            "is damaged",
            STORAGE_FAILED,
            Box::new(|| fs::write(&database, &good[..good.len() / 2]).unwrap()),
        ),
        ("the checksum of a set of marks", STORAGE_FAILED, Box::new(|| sql(MARKS).unwrap())),
    ];
    for (what, code, damage) in cases {
        fs::write(&database, &good).unwrap();
        // The log is from before: the damage has to be in the file itself.
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(daemon.data_dir().join(format!("semaphored.db{suffix}")));
        }
        sql("PRAGMA journal_mode = DELETE").unwrap();
        damage();
        let before = fs::read(&database).unwrap();
        let mut refused = Running(start_under("true", &daemon, &log));
        let status = poll(what, || refused.0.try_wait().unwrap());
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(status.code(), Some(code), "{what}: {text}");
        assert!(text.contains(what) && text.contains("semaphored.db"), "{what}: {text}");
        assert!(fs::read(&database).unwrap() == before, "{what}: the file was changed");
    }
}

/// After a downgrade: the message is right that a backup from before the upgrade helps, and fences go on above both.
#[test]
fn a_backup_of_before_is_restored_over_a_newer_database() {
    let mut daemon = Daemon::start(CONFIG);
    let claim = daemon.call("PUT", "/api/v1/claims/x", r#"{"permits": {"A": 1}}"#).json();
    let backup = daemon.call("GET", "/api/v1/backup", "").body;
    daemon.stop();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.db");
    fs::write(&file, backup).unwrap();
    let database = daemon.data_dir().join("semaphored.db");
    Connection::open(&database).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let log = directory.path().join("log");
    let mut refused = Running(start_under(":", &daemon, &log));
    let status = poll("the refusal", || refused.0.try_wait().unwrap());
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(REFUSED), "{said}");
    for part in
        ["semaphored.db has schema version 99", "knows up to 3", "semaphored --restore FILE"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }

    let restored = Command::new(env!("CARGO_BIN_EXE_semaphored"))
        .arg("--restore")
        .arg(&file)
        .arg("--data-dir")
        .arg(daemon.data_dir())
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    daemon.start_again(Port::New);
    let held = daemon.look("/api/v1/claims/x");
    assert_eq!((&held["state"], &held["fences"]), (&claim["state"], &claim["fences"]));
    let next = daemon.call("PUT", "/api/v1/claims/y", r#"{"permits": {"A": 1}}"#).json();
    assert!(next["fences"]["A"].as_u64() > claim["fences"]["A"].as_u64());
    daemon.stop();
}

/// The database holds who works on what: nobody else may read it, whatever the umask was.
#[test]
fn the_files_are_for_the_daemon_alone() {
    let mut daemon = Daemon::start(CONFIG);
    daemon.stop();
    fs::remove_dir_all(daemon.data_dir()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let _running = Running(start_under("umask 0", &daemon, &log));
    poll("the start", || fs::read_to_string(&log).unwrap().contains("listening on ").then_some(()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.data_dir()), 0o700);
    let files: Vec<_> = fs::read_dir(daemon.data_dir()).unwrap().map(|f| f.unwrap()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
    }
}

/// What somebody has opened to others is not used, and the message has the command that mends it.
#[test]
fn a_directory_or_database_that_others_can_read_is_refused() {
    let mut daemon = Daemon::start(CONFIG);
    daemon.stop();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    for (path, loose, tight) in
        [(daemon.data_dir(), 0o755, 0o700), (daemon.data_dir().join("semaphored.db"), 0o640, 0o600)]
    {
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set(loose);
        let status = start_under(":", &daemon, &log).wait().unwrap();
        let said = fs::read_to_string(&log).unwrap();
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains(&format!("chmod {tight:04o} {}", path.display())), "{said}");
        set(tight);
    }
    daemon.start_again(Port::New);
    daemon.stop();
}

/// A clean stop leaves one file that is the whole database, for whoever copies it.
#[test]
fn a_stop_moves_the_log_into_the_database() {
    let mut daemon = Daemon::start(CONFIG);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/a", r#"{"permits": {"A": 1}}"#).status, 201);
    assert!(daemon.data_dir().join("semaphored.db-wal").exists());
    daemon.stop();
    let files = fs::read_dir(daemon.data_dir()).unwrap().map(|file| file.unwrap().file_name());
    let mut files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["lock", "semaphored.db"]);
}
