//! Secrets of targets: where they are read from, and that they are never shown.
//!
//! Read once, when the configuration is loaded. One newline at the end of a file is not part of the secret.
//! No error and no warning has a secret's text in it, nor a credential's name: somebody may have put a secret there.

use std::{
    fmt, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::fs::{Mode, OFlags};

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 4_096;
/// Shortest and longest key of a webhook, in bytes (Standard Webhooks).
const WEBHOOK_KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const WEBHOOK_KEY_PREFIX: &str = "whsec_";
/// The permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// A text that is never shown: 1 to 4,096 bytes without control characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Checks the bounds.
    ///
    /// # Errors
    /// Empty, longer than 4,096 bytes, or with a control character.
    pub fn new(text: &str) -> Result<Secret, SecretProblem> {
        match text.len() {
            0 => Err(SecretProblem::Empty),
            length if length > SECRET_BYTES_MAX => Err(SecretProblem::TooLong),
            _ if text.chars().any(char::is_control) => Err(SecretProblem::Control),
            _ => Ok(Secret(text.to_owned())),
        }
    }

    /// The secret itself, for the request that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a header can carry it.
    pub(crate) fn is_visible_ascii(&self) -> bool {
        self.0.bytes().all(|b| b.is_ascii_graphic())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration file itself.
    Inline(Secret),
    /// In a file of its own.
    File(PathBuf),
    /// A credential that systemd passes: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretProblem {
    /// Nothing in it.
    #[error("the secret is empty: put it in, on one line")]
    Empty,
    /// More than any token has.
    #[error("the secret has more than 4096 bytes: is this the right file?")]
    TooLong,
    /// A line break in the middle, or worse.
    #[error("the secret has a line break or another control character in it: it must be one line")]
    Control,
    /// Not text.
    #[error("the secret is not UTF-8 text: is this the right file?")]
    NotText,
    /// The file cannot be read.
    #[error(
        "cannot read the secret in {path}: {source}; it must be readable for the user of semaphored"
    )]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A directory, a device, a FIFO.
    #[error("{0} is no regular file: a secret is one line in a file")]
    NotAFile(String),
    /// No directory of credentials.
    #[error(
        "`$CREDENTIALS_DIRECTORY` is not set, so there are no credentials: systemd sets it for a unit with \
         `LoadCredential=NAME:/path/of/the/secret`"
    )]
    NoCredentials,
    /// A name that would leave the directory.
    #[error("a credential's name must be 1 to 255 of A-Z a-z 0-9 . _ - and not begin with a dot")]
    CredentialName,
    /// No key in the form of Standard Webhooks.
    #[error(
        "the secret of a signed webhook must be `whsec_` and then base64 of 24 to 64 bytes; make one \
         with: echo \"whsec_$(openssl rand -base64 32)\""
    )]
    WebhookKey,
}

impl SecretSource {
    /// Reads the secret. With it comes a warning when others can read it too.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is not one line of 1 to 4,096 bytes.
    pub fn read(
        &self,
        credentials: Option<&Path>,
    ) -> Result<(Secret, Option<String>), SecretProblem> {
        match self {
            SecretSource::Inline(secret) => Ok((secret.clone(), None)),
            SecretSource::File(path) => {
                let (secret, mode) = read_file(path, &path.display().to_string())?;
                let warning = (mode & OTHERS != 0).then(|| {
                    let path = path.display();
                    format!("{path} has a secret and every user can read it: chmod o= {path}")
                });
                Ok((secret, warning))
            }
            SecretSource::Credential(name) => {
                let is_name = (1..=255).contains(&name.len())
                    && !name.starts_with('.')
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
                if !is_name {
                    return Err(SecretProblem::CredentialName);
                }
                let directory = credentials.ok_or(SecretProblem::NoCredentials)?;
                Ok((read_file(&directory.join(name), "the credential of that name")?.0, None))
            }
        }
    }
}

/// Whether users who are neither the owner nor in the group have any right on a file. False when that
/// cannot be seen.
#[must_use]
pub fn readable_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & OTHERS != 0)
}

/// The secret in a file, and the file's permissions. Errors call it as it is `shown`.
fn read_file(path: &Path, shown: &str) -> Result<(Secret, u32), SecretProblem> {
    let shown = || shown.to_owned();
    let unreadable = |source| SecretProblem::Unreadable { path: shown(), source };
    // Else the open would wait for whoever writes to a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    let file = std::fs::File::from(file);
    let known = file.metadata().map_err(unreadable)?;
    if !known.is_file() {
        return Err(SecretProblem::NotAFile(shown()));
    }
    let mut bytes = Vec::new();
    // Two more than the longest: the newline, and one that shows that it is longer.
    let bound = SECRET_BYTES_MAX as u64 + 2;
    io::Read::read_to_end(&mut io::Read::take(file, bound), &mut bytes).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| SecretProblem::NotText)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let secret = Secret::new(line.strip_suffix('\r').unwrap_or(line))?;
    Ok((secret, known.permissions().mode()))
}

/// The key of a webhook's signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookKey(Vec<u8>);

impl WebhookKey {
    /// Decodes `whsec_…`.
    ///
    /// # Errors
    /// Another form, or a key that is too short or too long.
    pub fn new(secret: &Secret) -> Result<WebhookKey, SecretProblem> {
        let encoded = secret.expose().strip_prefix(WEBHOOK_KEY_PREFIX);
        let key = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        match key {
            Some(key) if WEBHOOK_KEY_BYTES.contains(&key.len()) => Ok(WebhookKey(key)),
            _ => Err(SecretProblem::WebhookKey),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WebhookKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(content: &[u8], mode: u32) -> (tempfile::TempDir, SecretSource) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, SecretSource::File(path))
    }

    #[test]
    fn a_file_has_one_line_and_others_who_can_read_it_are_told_of() {
        let (_directory, source) = file_with(b"glpat-1\n", 0o640);
        let (secret, warning) = source.read(None).unwrap();
        assert_eq!((secret.expose(), warning), ("glpat-1", None));
        let (_directory, source) = file_with(b"glpat-1", 0o644);
        let (secret, warning) = source.read(None).unwrap();
        assert_eq!(secret.expose(), "glpat-1");
        let warning = warning.unwrap();
        assert!(warning.contains("every user can read it: chmod o= /"), "{warning}");
        assert!(!warning.contains("glpat"), "{warning}");
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let (_directory, longest) = file_with(&[b'x'; SECRET_BYTES_MAX], 0o600);
        assert!(longest.read(None).is_ok());
        for (content, expected) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"a\nb\n", "one line"),
            (b"a\n\n", "one line"),
            (b"a\0", "one line"),
            (b"\xff", "not UTF-8"),
            (&vec![b'x'; SECRET_BYTES_MAX + 1], "more than 4096 bytes"),
        ] {
            let (_directory, source) = file_with(content, 0o600);
            let error = source.read(None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let missing = SecretSource::File("/nonexistent/token".into());
        let error = missing.read(None).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the secret in /nonexistent/token: "), "{error}");
    }

    #[test]
    fn what_is_no_file_is_refused_and_nobody_waits_for_a_writer() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        for path in [fifo.as_path(), directory.path(), Path::new("/dev/zero")] {
            let error = SecretSource::File(path.into()).read(None).unwrap_err().to_string();
            assert!(
                error.ends_with("is no regular file: a secret is one line in a file"),
                "{error}"
            );
            assert!(error.starts_with(&path.display().to_string()), "{error}");
        }
        let name = fifo.file_name().unwrap().to_str().unwrap().to_owned();
        let credential = SecretSource::Credential(name).read(Some(directory.path()));
        assert!(matches!(credential, Err(SecretProblem::NotAFile(_))));
    }

    #[test]
    fn credentials_come_from_their_directory_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("gitlab"), "glpat-2\n").unwrap();
        let read = |name: &str, directory: Option<&Path>| {
            SecretSource::Credential(name.to_owned()).read(directory).map(|(secret, _)| secret)
        };
        assert_eq!(read("gitlab", Some(directory.path())).unwrap().expose(), "glpat-2");
        assert!(matches!(read("gitlab", None), Err(SecretProblem::NoCredentials)));
        let error = read("glpat-1", Some(directory.path())).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read the secret in the credential of that name: "),
            "{error}"
        );
        for name in ["", "..", ".x", "a/b", "../x"] {
            let problem = read(name, Some(directory.path())).unwrap_err();
            assert!(matches!(problem, SecretProblem::CredentialName), "{name:?}");
        }
    }

    #[test]
    fn nothing_shows_a_secret() {
        let secret = Secret::new("glpat-1").unwrap();
        let source = SecretSource::Inline(secret.clone());
        assert_eq!(format!("{secret:?} {source:?}"), "Secret(…) Inline(Secret(…))");
    }

    #[test]
    fn keys_are_base64_of_24_to_64_bytes() {
        let key = |bytes: usize| {
            let text = format!("{WEBHOOK_KEY_PREFIX}{}", STANDARD.encode(vec![7; bytes]));
            WebhookKey::new(&Secret::new(&text).unwrap())
        };
        assert_eq!(key(24).unwrap().bytes(), [7; 24]);
        assert!(key(64).is_ok());
        for bytes in [0, 23, 65] {
            assert!(key(bytes).unwrap_err().to_string().contains("openssl rand -base64 32"));
        }
        let bare = Secret::new("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert!(WebhookKey::new(&bare).is_err());
        assert_eq!(format!("{:?}", key(24).unwrap()), "WebhookKey(…)");
    }
}
