//! Who may call what: which scope each endpoint needs, and whether a call has it.
//!
//! Decided before anything of the call is looked at. What depends on a claim or on a semaphore's name (is it there for
//! this token?) is decided where it is looked up.

use std::{borrow::Cow, ops::Deref, sync::Arc};

use percent_encoding::percent_decode_str;

use super::{Api, Call, Credentials, Endpoint, Error, audit::claim_row, throttle::Verdict};
use crate::{
    model::{
        Actor, AuditEntry, Claim, ClaimId, Note, Scope, SemaphoreName, Token, without_secrets,
    },
    semaphore::{Asker, TokenRefusal},
};

/// Who needs a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Everybody, but for what holds no state.
    #[default]
    Required,
    /// Everybody who does more than look: `read` is open.
    AnonymousRead,
    /// Nobody.
    Off,
}

/// What an endpoint needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: it shows no state.
    Open,
    /// Any token.
    Token,
    /// A token with this scope.
    Scope(Scope),
    /// A token with `read`, or with `claim`: then it is about the token's own claims.
    ReadOrClaim,
    /// A token with `admin` for all semaphores: one for some of them must not make itself one for others.
    WholeAdmin,
}

impl Endpoint {
    /// What it needs.
    #[must_use]
    pub fn access(&self) -> Access {
        match self {
            Endpoint::Versions | Endpoint::Health | Endpoint::Ready | Endpoint::OpenApi => {
                Access::Open
            }
            Endpoint::Index | Endpoint::OwnToken => Access::Token,
            Endpoint::Service
            | Endpoint::ListSemaphores
            | Endpoint::ShowSemaphore(_)
            | Endpoint::ListTargets => Access::Scope(Scope::Read),
            Endpoint::ListClaims => Access::ReadOrClaim,
            Endpoint::CreateClaim
            | Endpoint::CreateClaimOf(_)
            | Endpoint::PutClaim(_)
            | Endpoint::ShowClaim(_)
            | Endpoint::DeleteClaim(_)
            | Endpoint::RenewClaim(_)
            | Endpoint::ListDeliveries(_)
            | Endpoint::RetryDelivery(..) => Access::Scope(Scope::Claim),
            Endpoint::RevokeClaim(_)
            | Endpoint::PutSemaphore(_)
            | Endpoint::PatchSemaphore(_)
            | Endpoint::DeleteSemaphore(_) => Access::Scope(Scope::Admin),
            Endpoint::TestTarget(_)
            | Endpoint::Backup
            | Endpoint::ListTokens
            | Endpoint::CreateToken
            | Endpoint::ShowToken(_)
            | Endpoint::RevokeToken(_)
            | Endpoint::RotateToken(_)
            | Endpoint::Audit => Access::WholeAdmin,
        }
    }

    /// Whether a job needs it to keep or to give back what it has.
    fn keeps_claims(&self) -> bool {
        matches!(self, Endpoint::RenewClaim(_) | Endpoint::DeleteClaim(_))
    }

    /// Whether `anonymous = "read"` opens it. Where callbacks go is nobody's business on a wall.
    fn is_for_a_wall(&self) -> bool {
        let reads = matches!(self.access(), Access::Scope(Scope::Read) | Access::ReadOrClaim);
        reads && !matches!(self, Endpoint::ListTargets)
    }

    /// What the audit log calls it and on what it is, if it is an act of an admin.
    pub(super) fn act(&self) -> Option<(&'static str, String)> {
        match self {
            Endpoint::RevokeClaim(id) => Some(("claim.revoke", format!("claim {id}"))),
            Endpoint::PutSemaphore(name) | Endpoint::PatchSemaphore(name) => {
                Some(("semaphore.set", format!("semaphore {name}")))
            }
            Endpoint::DeleteSemaphore(name) => {
                Some(("semaphore.remove", format!("semaphore {name}")))
            }
            Endpoint::TestTarget(name) => Some(("callback.test", format!("target {name}"))),
            Endpoint::Backup => Some(("backup", "all".to_owned())),
            Endpoint::CreateToken => Some(("token.create", "token".to_owned())),
            Endpoint::RevokeToken(id) => Some(("token.revoke", format!("token {id}"))),
            Endpoint::RotateToken(id) => Some(("token.rotate", format!("token {id}"))),
            _ => None,
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Anybody: tokens are switched off.
    Anyone,
    /// Somebody without a token, at an endpoint that needs none.
    Anonymous,
    /// The owner of a token.
    Token(Arc<Token>),
}

impl Caller {
    pub(super) fn token(&self) -> Option<&Arc<Token>> {
        match self {
            Caller::Token(token) => Some(token),
            Caller::Anyone | Caller::Anonymous => None,
        }
    }

    /// Whether a semaphore of this name exists for the caller.
    pub(super) fn sees(&self, name: &SemaphoreName) -> bool {
        self.token().is_none_or(|token| token.patterns.cover(name))
    }

    /// Whether a claim is in the caller's lists.
    pub(super) fn lists(&self, claim: &Claim) -> bool {
        self.token().is_none_or(|token| {
            token.may_use(claim) || (token.allows(Scope::Read) && token.covers(claim))
        })
    }
}

/// Makes the row about a claim of another.
pub(super) type OnAnother<'c> = Box<dyn Fn(&Claim) -> Box<AuditEntry> + 'c>;

/// A call that may be made.
#[derive(Debug)]
pub(super) struct Admitted<'c> {
    pub(super) call: &'c Call,
    pub(super) caller: Caller,
}

impl Deref for Admitted<'_> {
    type Target = Call;

    fn deref(&self) -> &Call {
        self.call
    }
}

impl Admitted<'_> {
    /// The caller as the service knows him.
    pub(super) fn asker(&self) -> Asker {
        let is_anonymous = self.caller == Caller::Anonymous;
        Asker { token: self.caller.token().cloned(), is_anonymous, peer: self.call.peer.clone() }
    }

    /// A row of the audit log for something that was done.
    pub(super) fn entry(&self, action: &str, object: String) -> AuditEntry {
        entry(self.call, &self.caller, action, object)
    }

    /// The row for an admin's act on a claim of another.
    pub(super) fn on_another(&self, action: &'static str, id: &ClaimId) -> Option<OnAnother<'_>> {
        let is_admin = self.caller.token().is_some_and(|token| token.allows(Scope::Admin));
        let id = id.clone();
        is_admin.then(|| -> OnAnother<'_> {
            Box::new(move |claim| claim_row(self.entry(action, format!("claim {id}")), claim))
        })
    }

    /// The row for the act that this call is.
    pub(super) fn act(&self, reason: Option<Note>) -> Option<Box<AuditEntry>> {
        let (action, object) = self.call.endpoint.act()?;
        Some(Box::new(AuditEntry { reason, ..self.entry(action, object) }))
    }
}

/// A row of the audit log, for an act that is done.
fn entry(call: &Call, caller: &Caller, action: &str, object: String) -> AuditEntry {
    let actor = caller.token().map_or(Actor::Anonymous, |token| Actor::of(token));
    AuditEntry { address: call.address, ..AuditEntry::done(actor, action, object) }
}

impl Api {
    /// Who calls, if he may.
    pub(super) fn admit(&self, call: &Call) -> Result<Caller, (Caller, Error)> {
        let access = call.endpoint.access();
        if self.options.auth == Auth::Off {
            return Ok(Caller::Anyone);
        }
        let is_open = access == Access::Open
            || (self.options.auth == Auth::AnonymousRead && call.endpoint.is_for_a_wall());
        let caller = match &call.credentials {
            // A wall that shows the state keeps doing so when a browser sends what it has.
            _ if access == Access::Open => return Ok(Caller::Anonymous),
            Credentials::None if is_open => return Ok(Caller::Anonymous),
            Credentials::None => return Err((Caller::Anonymous, Error::TokenMissing)),
            Credentials::Malformed => return Err((Caller::Anonymous, self.wrong_token(call))),
            Credentials::Token(text) => {
                match self.service.authenticate(text, call.endpoint.keeps_claims()) {
                    Ok(token) => Caller::Token(token),
                    Err(TokenRefusal::Unknown) => {
                        return Err((Caller::Anonymous, self.wrong_token(call)));
                    }
                    Err(TokenRefusal::Expired { token, at }) => {
                        let error = Error::TokenExpired { name: token.name.to_string(), at };
                        return Err((Caller::Token(token), error));
                    }
                    Err(TokenRefusal::TooManyRequests { token, per_second_max }) => {
                        let error = Error::TooManyRequests { per_second_max };
                        return Err((Caller::Token(token), error));
                    }
                }
            }
        };
        match missing(access, &caller) {
            None => Ok(caller),
            Some(error) => Err((caller, error)),
        }
    }

    /// Whether who was let in still would be, at the end of a wait.
    pub(super) fn recheck(&self, access: Access, caller: &Caller) -> Result<(), Error> {
        match missing(access, &self.present(caller)?) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// The caller with what his token may do now.
    pub(super) fn present(&self, caller: &Caller) -> Result<Caller, Error> {
        let Caller::Token(token) = caller else { return Ok(caller.clone()) };
        match self.service.present_token(token) {
            Ok(token) => Ok(Caller::Token(token)),
            Err(TokenRefusal::Expired { token, at }) => {
                Err(Error::TokenExpired { name: token.name.to_string(), at })
            }
            Err(TokenRefusal::Unknown | TokenRefusal::TooManyRequests { .. }) => {
                Err(Error::TokenInvalid)
            }
        }
    }

    /// The answer to a token that is none: after many of them from the same address only that there were too many.
    fn wrong_token(&self, call: &Call) -> Error {
        match self.throttle.wrong(call.address) {
            Verdict::Go => Error::TokenInvalid,
            Verdict::Stop { wrong_max, retry_after_seconds } => {
                Error::TooManyWrongTokens { wrong_max, retry_after_seconds }
            }
        }
    }

    /// Notes in the audit log what was refused: for want of rights, or an act of an admin that could not be done.
    pub(super) fn note_refused(&self, call: &Call, caller: &Caller, error: &Error) {
        let act = call.endpoint.act().filter(|_| !error.is_of_service());
        let (action, object) = match act {
            Some(act) => act,
            None if error.is_denial() => (call.method.as_str(), call.path.clone()),
            None => return,
        };
        let object = super::body::shorten(&without_hidden_secrets(object));
        let row = entry(call, caller, action, object);
        self.service.note_refused(AuditEntry { result: error.code().into(), ..row });
    }
}

/// How often a path is decoded in search of a token.
const DECODED_MAX: usize = 4;

/// A path, decoded if that shows a token in it: then it can be cut down like one that was not encoded.
fn without_hidden_secrets(path: String) -> String {
    let mut decoded = path.clone();
    for _ in 0..DECODED_MAX {
        decoded = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
    }
    if matches!(without_secrets(&decoded), Cow::Owned(_)) { decoded } else { path }
}

/// What a token lacks for an endpoint.
fn missing(access: Access, caller: &Caller) -> Option<Error> {
    let token = caller.token()?;
    let lacks = |scope: Scope| {
        if token.allows(scope) {
            return None;
        }
        let scopes = token.scopes.iter().map(Scope::as_str).collect();
        Some(Error::ScopeMissing { scope, scopes })
    };
    match access {
        Access::Open | Access::Token => None,
        Access::Scope(scope) => lacks(scope),
        Access::ReadOrClaim => lacks(Scope::Claim).and_then(|_| lacks(Scope::Read)),
        Access::WholeAdmin => lacks(Scope::Admin).or_else(|| {
            let patterns = token.patterns.iter().map(str::to_owned).collect();
            (!token.patterns.cover_all()).then_some(Error::AllSemaphoresNeeded { patterns })
        }),
    }
}
