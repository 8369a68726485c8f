//! `[auth]` in the configuration file: who needs a token, and tokens for machines that are set up by configuration
//! management.
//!
//! A secret is in a file or a systemd credential, or the file of the configuration has its hash alone; it is never in the
//! configuration itself. Errors never show one.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{callbacks::credentials_directory, config::Error};
use crate::{
    api,
    callbacks::secret::SecretSource,
    model::{
        Declaration, Invalid, Patterns, Priority, Scope, Scopes, SecretHash, Token, TokenBounds,
        TokenId, TokenName, TokenOrigin, TokenText, WallTime,
    },
};

/// Most tokens of the file.
const TOKENS_MAX: usize = 1_000;

/// The section as it stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Auth {
    #[serde(default)]
    pub(crate) mode: Mode,
    #[serde(default)]
    anonymous: Anonymous,
    #[serde(default)]
    tokens: Vec<Entry>,
}

/// Whether tokens are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// For all that holds state.
    #[default]
    Required,
    /// For nothing; on a loopback address alone.
    Off,
}

/// What is open to those without a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Anonymous {
    /// Nothing.
    #[default]
    None,
    /// The state of semaphores, and who holds and waits.
    Read,
}

/// `[[auth.tokens]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    id: Option<String>,
    sha256: Option<String>,
    secret_file: Option<PathBuf>,
    secret_credential: Option<String>,
    scopes: Vec<String>,
    semaphores: Option<Vec<String>>,
    expires_at: Option<String>,
    claims_max: Option<u32>,
    waiting_requests_max: Option<u32>,
    priority_max: Option<i64>,
}

impl Auth {
    /// Nobody needs a token: for the demo.
    pub(crate) fn off() -> Auth {
        Auth { mode: Mode::Off, ..Auth::default() }
    }

    /// Who needs a token.
    pub(crate) fn needs(&self) -> api::Auth {
        match (self.mode, self.anonymous) {
            (Mode::Off, _) => api::Auth::Off,
            (Mode::Required, Anonymous::Read) => api::Auth::AnonymousRead,
            (Mode::Required, Anonymous::None) => api::Auth::Required,
        }
    }

    /// The tokens of the file, with what their secrets' files say.
    ///
    /// # Errors
    /// The first that is wrong, with its number and name.
    pub(crate) fn tokens(&self, path: &Path) -> Result<Vec<Token>, Error> {
        let wrong = |what: String| Error::Wrong { path: path.display().to_string(), what };
        if self.tokens.len() > TOKENS_MAX {
            return Err(wrong(format!("there are more than {TOKENS_MAX} [[auth.tokens]]")));
        }
        let credentials = credentials_directory();
        let mut tokens: Vec<Token> = Vec::with_capacity(self.tokens.len());
        for (number, entry) in (1..).zip(&self.tokens) {
            let named = |what: String| {
                wrong(format!("[[auth.tokens]] number {number} ({:?}): {what}", entry.name))
            };
            let token = entry.token(credentials.as_deref()).map_err(&named)?;
            if let Some(other) = tokens.iter().find(|other| other.id == token.id) {
                return Err(named(format!("its id is that of {:?}", other.name.as_str())));
            }
            tokens.push(token);
        }
        Ok(tokens)
    }
}

impl Entry {
    fn token(&self, credentials: Option<&Path>) -> Result<Token, String> {
        let (id, hash) = self.secret(credentials)?;
        let scopes = self.scopes.iter().map(|scope| Scope::parse(scope));
        let scopes = scopes.collect::<Result<Vec<_>, _>>().and_then(Scopes::new);
        let bounds = TokenBounds {
            claims_max: self.claims_max,
            waiting_requests_max: self.waiting_requests_max,
            priority_max: self
                .priority_max
                .map(Priority::new)
                .transpose()
                .map_err(in_key("priority_max"))?,
        };
        let patterns = match &self.semaphores {
            Some(names) => Patterns::new(names.clone()).map_err(in_key("semaphores"))?,
            None => Patterns::all(),
        };
        let expires_at = self.expires_at.as_deref().map(WallTime::from_rfc3339).transpose();
        let said = format!("{self:?} {id} {hash:?}");
        Ok(Token {
            id,
            hash,
            name: TokenName::new(&self.name).map_err(in_key("name"))?,
            scopes: scopes.map_err(in_key("scopes"))?,
            patterns,
            bounds,
            expires_at: expires_at.map_err(in_key("expires_at"))?,
            origin: TokenOrigin::File(Declaration(Sha256::digest(said.as_bytes()).into())),
            created_at: WallTime::default(),
            last_used_at: None,
        })
    }

    fn secret(&self, credentials: Option<&Path>) -> Result<(TokenId, SecretHash), String> {
        let source = match (&self.sha256, &self.secret_file, &self.secret_credential) {
            (Some(sha256), None, None) => return self.hashed(sha256),
            (None, Some(path), None) if path.is_absolute() => SecretSource::File(path.clone()),
            (None, Some(path), None) => {
                return Err(format!(
                    "`secret_file` must be a path that begins with `/`, not {:?}",
                    path.display().to_string()
                ));
            }
            (None, None, Some(name)) => SecretSource::Credential(name.clone()),
            _ => {
                return Err(
                    "set one of `secret_file`, `secret_credential`, and `sha256` with `id`".into(),
                );
            }
        };
        if self.id.is_some() {
            return Err("`id` belongs to `sha256`: elsewhere the token has its id in it".into());
        }
        let (secret, exposed) = source.read(credentials).map_err(|problem| problem.to_string())?;
        if let Some(exposed) = exposed {
            return Err(exposed);
        }
        let text = TokenText::parse(secret.expose())
            .map_err(|invalid| format!("the token must be {}", invalid.allowed))?;
        Ok((text.id().clone(), text.hash()))
    }

    fn hashed(&self, sha256: &str) -> Result<(TokenId, SecretHash), String> {
        let id = self.id.as_deref().ok_or("`sha256` needs the token's `id`")?;
        let id = TokenId::new(id).map_err(in_key("id"))?;
        let hash = from_hex(sha256)
            .ok_or("`sha256` must be the 64 hexadecimal digits of: printf %s SECRET | sha256sum")?;
        Ok((id, SecretHash(hash)))
    }
}

fn in_key(key: &'static str) -> impl Fn(Invalid) -> String {
    move |invalid| format!("`{key}` must be {}", invalid.allowed)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok().filter(|_| !digits.contains('+'))?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const TOKEN: &str = "sem_farm1_0123456789abcdefghijklmnopqrstuv";

    fn tokens(text: &str) -> Result<Vec<Token>, String> {
        let auth: Auth = toml::from_str(text).map_err(|error| error.to_string())?;
        auth.tokens(Path::new("x.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_given_by_a_file_or_by_its_hash() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let by_file =
            format!("[[tokens]]\nname = \"farm\"\nscopes = [\"claim\"]\nsecret_file = {file:?}");
        let hash = TokenText::parse(TOKEN).unwrap().hash();
        let hex: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let by_hash = format!(
            "[[tokens]]\nname = \"farm\"\nscopes = [\"claim\"]\nid = \"farm1\"\nsha256 = \"{hex}\"\n\
             semaphores = [\"questa*\"]\nclaims_max = 5\npriority_max = 10\n\
             expires_at = \"2030-01-01T00:00:00Z\""
        );
        for text in [&by_file, &by_hash] {
            let token = &tokens(text).unwrap()[0];
            assert_eq!((token.id.as_str(), token.hash), ("farm1", hash));
            assert!(token.allows(Scope::Claim) && !token.allows(Scope::Read));
        }
        let twice = format!("{by_file}\n{by_hash}");
        assert!(tokens(&twice).unwrap_err().contains("its id is that of"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
        let error = tokens(&by_file).unwrap_err();
        assert!(error.contains("chmod o=") && !error.contains(TOKEN), "{error}");
    }

    #[test]
    fn errors_say_which_and_what() {
        let entry = "[[tokens]]\nname = \"farm\"\nscopes = [\"claim\"]\n";
        for (text, expected) in [
            (entry.to_owned(), "number 1 (\"farm\"): set one of `secret_file`"),
            (format!("{entry}sha256 = \"00\""), "`sha256` needs the token's `id`"),
            (format!("{entry}id = \"abcd\"\nsha256 = \"00\""), "64 hexadecimal digits"),
            (format!("{entry}secret_file = \"x\""), "begins with `/`"),
            (format!("{entry}secret = \"{TOKEN}\""), "unknown field `secret`"),
            (entry.replace("\"claim\"", ""), "set one of"),
            ("mode = \"on\"".into(), "unknown variant `on`"),
            (format!("{entry}id = \"AB\"\nsha256 = \"{}\"", "0".repeat(64)), "`id` must be"),
            (
                format!(
                    "{entry}id = \"abcd\"\nsha256 = \"{}\"\nexpires_at = \"x\"",
                    "0".repeat(64)
                ),
                "`expires_at` must be a time",
            ),
        ] {
            let error = tokens(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
