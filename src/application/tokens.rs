//! From the configuration's tokens to the service's, and the first token of all.

use std::{
    collections::BTreeSet,
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::Failure;
use crate::{
    api::{random_token, rights},
    cli::exit,
    model::{
        Actor, AuditEntry, Patterns, Scopes, Token, TokenBounds, TokenName, TokenOrigin, TokenText,
    },
    semaphore::{Asker, Refusal, Service},
};

/// Where the first token is, in the data directory.
pub(crate) const ADMIN_TOKEN: &str = "admin-token";
/// What it is called.
const ADMIN_NAME: &str = "admin-token";
/// Group and others.
const OTHERS: u32 = 0o077;

/// Makes the tokens of the configuration those of the service: new and changed ones are set, those that stand there no more
/// are revoked.
pub(crate) fn apply(service: &Service, declared: &[Token]) {
    let present: Vec<_> = service.tokens().what.into_iter().map(|(token, _)| token).collect();
    for token in declared {
        let known = present.iter().find(|known| known.id == token.id);
        match known {
            Some(known) if known.origin == token.origin => continue,
            Some(known) if known.origin == TokenOrigin::Api => {
                log::error!(
                    "the token {:?} of the configuration was not taken: its id {} is that of another one, which was made \
                     over the API",
                    token.name.as_str(),
                    token.id
                );
                continue;
            }
            Some(_) | None => {}
        }
        set(service, known.map(AsRef::as_ref), token);
    }
    let ids: BTreeSet<_> = declared.iter().map(|token| &token.id).collect();
    let gone = |token: &&std::sync::Arc<Token>| {
        matches!(token.origin, TokenOrigin::File(_)) && !ids.contains(&token.id)
    };
    for token in present.iter().filter(gone) {
        let audit = entry(Actor::Configuration, "token.revoke", (Some(token), None));
        match service.revoke_token(&token.id, &Asker::default(), audit) {
            Ok(_) => log::info!(
                "revoked the token {:?}, which is not declared any more",
                token.name.as_str()
            ),
            Err(refusal) => log::error!("a token was not revoked: {refusal:?}"),
        }
    }
    // As with semaphores: nobody waits for it, and if somebody else commits, the ticker sees to the rest.
    let _ = service.commit();
}

fn set(service: &Service, known: Option<&Token>, token: &Token) {
    let made = Token {
        created_at: known.map_or_else(|| service.now().wall, |known| known.created_at),
        last_used_at: known.and_then(|known| known.last_used_at),
        ..token.clone()
    };
    let nobody = Asker::default();
    if known.is_some_and(|known| known.hash != token.hash) {
        // So that requests with the old secret end.
        let audit = entry(Actor::Configuration, "token.rotate", (known, Some(token)));
        if let Err(refusal) = service.rotate_token(&token.id, token.hash, &nobody, audit) {
            log::error!("a token was not rotated: {refusal:?}");
        }
    }
    let action = if known.is_some() { "token.set" } else { "token.create" };
    let audit = entry(Actor::Configuration, action, (known, Some(token)));
    match service.set_token(made, &nobody, audit) {
        Ok(_) => log::info!("the token {:?} is as declared", token.name.as_str()),
        Err(refusal) => {
            log::error!("the token {:?} was not taken: {refusal:?}", token.name.as_str());
        }
    }
}

/// Sees to it that somebody can get in: without any token makes one for an admin, and writes it to a file that only its
/// owner can read. The file is on disk before the token is.
///
/// # Errors
/// When the file can be read by others, or cannot be written.
pub(crate) fn ensure_admin(service: &Service, data_dir: &Path) -> Result<(), Failure> {
    let path = data_dir.join(ADMIN_TOKEN);
    check_private(&path)?;
    if service.tokens().what.is_empty() {
        let (text, token) = admin_token(service)?;
        // The file first: whatever crashes in between, there is no token that nobody has.
        write_token(data_dir, &text)?;
        keep(service, token)?;
        log::warn!("there was no token: made one for an admin, it is in {}", path.display());
    }
    Ok(())
}

/// Makes another token for an admin, whatever there is; tells where it is.
///
/// # Errors
/// When the token cannot be kept, or the file cannot be written: then the one that is in it still counts.
pub(crate) fn make_admin(service: &Service, data_dir: &Path) -> Result<PathBuf, Failure> {
    let (text, token) = admin_token(service)?;
    keep(service, token)?;
    write_token(data_dir, &text)
}

fn admin_token(service: &Service) -> Result<(TokenText, Token), Failure> {
    let failed = |what: &dyn Display| {
        Failure::new(exit::INTERNAL, &format!("cannot make an admin token: {what}"))
    };
    let text = random_token().map_err(|error| failed(&error))?;
    let token = Token {
        id: text.id().clone(),
        hash: text.hash(),
        name: TokenName::new(ADMIN_NAME).map_err(|error| failed(&error))?,
        scopes: Scopes::ADMIN,
        patterns: Patterns::all(),
        bounds: TokenBounds::default(),
        expires_at: None,
        origin: TokenOrigin::Api,
        created_at: service.now().wall,
        last_used_at: None,
    };
    Ok((text, token))
}

fn keep(service: &Service, token: Token) -> Result<(), Failure> {
    let audit = entry(Actor::Daemon, "token.create", (None, Some(&token)));
    let set = service.set_token(token, &Asker::default(), audit);
    set.map_err(|refusal| {
        let why = match refusal {
            Refusal::Core(error, _) => format!("{error}; revoke tokens that nobody needs"),
            other => format!("{other:?}"),
        };
        Failure::new(exit::INTERNAL, &format!("cannot make an admin token: {why}"))
    })?;
    let _ = service.commit();
    Ok(())
}

fn write_token(data_dir: &Path, text: &TokenText) -> Result<PathBuf, Failure> {
    let path = data_dir.join(ADMIN_TOKEN);
    let written = write_private(data_dir, &path, &text.reveal());
    written.map_err(|error| {
        Failure::new(exit::IO, &format!("cannot write {}: {error}", path.display()))
    })?;
    Ok(path)
}

/// What the audit log says: what the token might do, and may do from now on.
fn entry(
    actor: Actor,
    action: &str,
    (old, new): (Option<&Token>, Option<&Token>),
) -> Option<Box<AuditEntry>> {
    let token = new.or(old)?;
    let shown = |token: &Token| serde_json::Value::Object(rights(token)).to_string().into();
    Some(Box::new(AuditEntry {
        old: old.map(shown),
        new: new.map(shown),
        ..AuditEntry::done(actor, action, format!("token {}", token.id))
    }))
}

fn check_private(path: &Path) -> Result<(), Failure> {
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let message = format!("cannot examine {}: {error}", path.display());
            return Err(Failure::new(exit::IO, &message));
        }
    };
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let path = path.display();
    let message = format!(
        "{path} has mode {mode:04o}, so other users can read the token in it: chmod 0600 {path}, and if somebody may have \
         read it, make another one with --new-admin-token and revoke this one"
    );
    Err(Failure::new(exit::CONFIGURATION, &message))
}

/// Whole and on disk before it has its name. It belongs to whom the directory belongs to.
fn write_private(data_dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let directory = fs::metadata(data_dir)?;
    if file.metadata()?.uid() != directory.uid() {
        std::os::unix::fs::fchown(&file, Some(directory.uid()), Some(directory.gid()))?;
    }
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_and_takes_the_place_of_an_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(ADMIN_TOKEN);
        for text in ["one", "two"] {
            write_private(directory.path(), &path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{text}\n"));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        assert!(check_private(&path).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = check_private(&path).unwrap_err();
        assert_eq!(failure.exit, exit::CONFIGURATION);
        assert!(failure.message.contains("chmod 0600"), "{}", failure.message);
    }
}
