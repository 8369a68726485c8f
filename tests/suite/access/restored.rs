//! Tokens in backups: what is in the file that its reader could use, and what comes back with it.

use std::{fs, os::unix::fs::PermissionsExt};

use super::Guarded;
use crate::{backup::restored, daemon::Port};

#[test]
fn a_backup_has_no_secret_and_brings_revoked_tokens_back() {
    let mut guarded = Guarded::start("[semaphores]\nA = 1");
    let left = guarded.token("claim+read", "");
    let rotated = guarded.token("read", "");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup.db");
    let backup = guarded.admin(200, "GET", "/api/v1/backup", "").body;
    let has = |text: &str| backup.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has(&left.id), "the file has the tokens");
    for token in [&left.token, &rotated.token, &guarded.admin] {
        assert!(!has(token.rsplit_once('_').unwrap().1), "and no secret");
    }
    fs::write(&file, &backup).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}", left.id), "");
    let path = format!("/api/v1/tokens/{}/rotate", rotated.id);
    let new = guarded.admin(200, "POST", &path, "").json()["token"].as_str().unwrap().to_owned();
    let later = guarded.token("read", "");
    let status = |guarded: &Guarded, token: &str| {
        guarded.call(token, "GET", "/api/v1/semaphores/A", "").status
    };
    for (token, before) in
        [(&left.token, 401), (&rotated.token, 401), (&new, 200), (&later.token, 200)]
    {
        assert_eq!(status(&guarded, token), before);
    }
    guarded.daemon.stop();
    let said = restored(&guarded.daemon, &file);
    assert!(said.contains("what was revoked since is valid again"), "{said}");
    guarded.daemon.start_again(Port::Same);
    for (token, after) in
        [(&left.token, 200), (&rotated.token, 200), (&new, 401), (&later.token, 401)]
    {
        assert_eq!(status(&guarded, token), after);
    }
}
