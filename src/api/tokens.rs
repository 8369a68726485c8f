//! The calls about tokens.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Answer, Api, Error, Handled, Outcome, Reply, Step,
    access::Admitted,
    body::{Members, shorten},
    claims::text,
    query::Query,
};
use crate::{
    model::{
        Invalid, Patterns, Priority, Revision, Scope, Scopes, TOKEN_PREFIX, Token, TokenBounds,
        TokenId, TokenName, TokenOrigin, TokenText, WallTime,
    },
    semaphore::Seen,
};

/// The members of a request for a token. Of these `name` and `scopes` are required.
const TOKEN_MEMBERS: [&str; 7] = [
    "name",
    "scopes",
    "semaphores",
    "expires_in",
    "claims_max",
    "waiting_requests_max",
    "priority_max",
];
const NAME_ALLOWED: &str = "a text of 1 to 128 bytes: who will use the token";
const SCOPES_ALLOWED: &str = "a list of \"read\", \"claim\" and \"admin\", at least one of them";
const PATTERNS_ALLOWED: &str =
    "a list of 1 to 16 names of semaphores, with * for any characters: [\"questa*\"]";
/// Characters of an id: 60 random bits, so that no id comes twice.
const ID_CHARS: usize = 12;
/// Characters of a secret: 200 random bits.
const SECRET_CHARS: usize = 40;
/// What they are made of: RFC 4648's base32 in lower case, so that each stands for five bits.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Longest time for which a token is made, where it has an end: ten years.
const EXPIRES_IN_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// A new token with 200 random bits from the system.
///
/// # Errors
/// When the system has none.
pub fn random_token() -> Result<TokenText, getrandom::Error> {
    let text = format!("{TOKEN_PREFIX}{}_{}", random::<ID_CHARS>()?, random::<SECRET_CHARS>()?);
    // It follows the grammar, as a test shows.
    TokenText::parse(&text).map_err(|_| getrandom::Error::UNEXPECTED)
}

fn random<const CHARS: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; CHARS];
    getrandom::fill(&mut bytes)?;
    // 256 is a multiple of 32: each character is as likely as any other.
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

impl Api {
    pub(super) fn own_token(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let Some(token) = call.caller.token() else { return Err(Error::NoToken.into()) };
        self.token_reply(&token.id)
    }

    pub(super) fn list_tokens(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let Seen { what: tokens, revision } = self.service.tokens();
        let bodies = tokens.iter().map(|(token, claims)| body(token, *claims));
        let body = json!({ "tokens": bodies.collect::<Vec<_>>(), "revision": revision.0 });
        Ok(Step::Done(Reply::json(Outcome::Ok, &body, revision)))
    }

    pub(super) fn show_token(&self, call: &Admitted<'_>, id: &str) -> Handled {
        Query::of(call, &[])?;
        self.token_reply(&token_id(id)?)
    }

    fn token_reply(&self, id: &TokenId) -> Handled {
        let Seen { what, revision } = self.service.token(id);
        let Some((token, claims)) = what else {
            return Err(Reply::error(Error::UnknownToken { id: id.to_string() }, revision));
        };
        let body = with_revision(body(&token, claims), revision);
        Ok(Step::Done(Reply::json(Outcome::Ok, &body, revision)))
    }

    pub(super) fn create_token(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let text = fresh_token()?;
        let token = self.requested(&call.body, &text)?;
        let audit = call.act(None).map(|mut row| {
            row.object = format!("token {}", token.id).into();
            row.new = Some(Value::Object(rights(&token)).to_string().into());
            row
        });
        let made = self.service.set_token(token, &call.asker(), audit);
        let Seen { what: token, revision } =
            made.map_err(|refusal| self.refused(&call.caller, refusal))?;
        let reply = shown_once(Outcome::Created, &token, 0, &text, revision);
        let location = format!("/api/v1/tokens/{}", token.id);
        Ok(Step::Done(reply.with(|answer| answer.location = Some(location))))
    }

    fn requested(&self, body: &[u8], text: &TokenText) -> Result<Token, Error> {
        let mut members = Members::parse(body, false, &TOKEN_MEMBERS)?;
        let name = required(
            members.take("name", |value| self::text(value, TokenName::new))?,
            "name",
            NAME_ALLOWED,
        )?;
        let scopes = required(members.take("scopes", scopes)?, "scopes", SCOPES_ALLOWED)?;
        let patterns = members.take("semaphores", patterns)?.unwrap_or_else(Patterns::all);
        let expires_in =
            members.take_duration("expires_in", Duration::from_secs(1), EXPIRES_IN_MAX)?;
        let bounds = TokenBounds {
            claims_max: members.take("claims_max", count)?,
            waiting_requests_max: members.take("waiting_requests_max", count)?,
            priority_max: members.take("priority_max", |value| {
                let priority = Priority::new(value.as_i64().unwrap_or(i64::MAX))?;
                Ok((priority, value.clone()))
            })?,
        };
        let now = self.service.now().wall;
        Ok(Token {
            id: text.id().clone(),
            hash: text.hash(),
            name,
            scopes,
            patterns,
            bounds,
            expires_at: expires_in.map(|expires_in| now.after(expires_in)),
            origin: TokenOrigin::Api,
            created_at: now,
            last_used_at: None,
        })
    }

    pub(super) fn rotate_token(&self, call: &Admitted<'_>, id: &str) -> Handled {
        Query::of(call, &[])?;
        Members::parse(&call.body, true, &[])?;
        let id = token_id(id)?;
        self.check_not_declared(&id)?;
        // The id stays: only the secret of the new one is used.
        let fresh = fresh_token()?;
        let text = fresh.with_id(&id);
        let rotated = self.service.rotate_token(&id, text.hash(), &call.asker(), call.act(None));
        let Seen { what: token, revision } =
            rotated.map_err(|refusal| self.refused(&call.caller, refusal))?;
        let claims = self.service.token(&id).what.map_or(0, |(_, claims)| claims);
        Ok(Step::Done(shown_once(Outcome::Ok, &token, claims, &text, revision)))
    }

    pub(super) fn revoke_token(&self, call: &Admitted<'_>, id: &str) -> Handled {
        let reason = Query::of(call, &["reason"])?.reason()?;
        let id = token_id(id)?;
        let token = self.check_not_declared(&id)?;
        let audit = call.act(reason).map(|mut row| {
            row.old = Some(Value::Object(rights(&token)).to_string().into());
            row
        });
        let revoked = self.service.revoke_token(&id, &call.asker(), audit);
        let Seen { revision, .. } =
            revoked.map_err(|refusal| self.refused(&call.caller, refusal))?;
        let answer = Answer::new(Outcome::Done, None, revision);
        Ok(Step::Done(Reply { result: Ok(answer), after: revision }))
    }

    /// A token that is there and not in the configuration, where it would come back from.
    fn check_not_declared(&self, id: &TokenId) -> Result<Token, Reply> {
        let Seen { what, revision } = self.service.token(id);
        let id = id.to_string();
        match what {
            None => Err(Reply::error(Error::UnknownToken { id }, revision)),
            Some((token, _)) if matches!(token.origin, TokenOrigin::File(_)) => {
                Err(Reply::error(Error::TokenDeclared { id }, revision))
            }
            Some((token, _)) => Ok(Token::clone(&token)),
        }
    }
}

fn fresh_token() -> Result<TokenText, Error> {
    random_token().map_err(|error| {
        log::error!("the system has no random numbers: {error}");
        Error::Internal
    })
}

/// An id in a path. What breaks its grammar names no token.
fn token_id(text: &str) -> Result<TokenId, Error> {
    TokenId::new(text).map_err(|_| Error::UnknownToken { id: shorten(text) })
}

fn required<T>(value: Option<T>, member: &'static str, allowed: &str) -> Result<T, Error> {
    value.ok_or_else(|| Error::MissingMember { member, allowed: allowed.into() })
}

fn scopes(value: &Value) -> Result<(Scopes, Value), Invalid> {
    let invalid = || Invalid { allowed: SCOPES_ALLOWED.into() };
    let scopes = value
        .as_array()
        .ok_or_else(invalid)?
        .iter()
        .map(|scope| Scope::parse(scope.as_str().unwrap_or_default()).map_err(|_| invalid()));
    let scopes: Vec<Scope> = scopes.collect::<Result<_, _>>()?;
    Ok((Scopes::new(scopes).map_err(|_| invalid())?, value.clone()))
}

fn patterns(value: &Value) -> Result<(Patterns, Value), Invalid> {
    let invalid = || Invalid { allowed: PATTERNS_ALLOWED.into() };
    let names = value.as_array().ok_or_else(invalid)?.iter();
    let names = names.map(|name| name.as_str().map(str::to_owned).ok_or_else(invalid));
    let patterns = Patterns::new(names.collect::<Result<_, _>>()?)?;
    Ok((patterns, value.clone()))
}

fn count(value: &Value) -> Result<(u32, Value), Invalid> {
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok()).filter(|c| *c > 0);
    let count = count.ok_or_else(|| Invalid { allowed: "a whole number from 1 on".into() })?;
    Ok((count, value.clone()))
}

/// What a token may do, as replies and the audit log show it.
#[must_use]
pub fn rights(token: &Token) -> Map<String, Value> {
    let rights = json!({
        "name": token.name.as_str(),
        "scopes": token.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(),
        "semaphores": token.patterns.iter().collect::<Vec<_>>(),
        "expires_at": token.expires_at.map(WallTime::to_rfc3339),
        "claims_max": token.bounds.claims_max,
        "waiting_requests_max": token.bounds.waiting_requests_max,
        "priority_max": token.priority_max().value(),
    });
    match rights {
        Value::Object(rights) => rights,
        _ => Map::new(),
    }
}

/// A token as replies show it: without anything that its secret could be found from.
fn body(token: &Token, claims: u32) -> Map<String, Value> {
    let mut body = rights(token);
    body.insert("id".into(), token.id.as_str().into());
    body.insert("origin".into(), token.origin.as_str().into());
    body.insert("created_at".into(), token.created_at.to_rfc3339().into());
    let used = token.last_used_at.map(WallTime::to_rfc3339);
    body.insert("last_used_at".into(), used.into());
    body.insert("claims".into(), claims.into());
    body
}

fn with_revision(mut body: Map<String, Value>, revision: Revision) -> Map<String, Value> {
    body.insert("revision".into(), revision.0.into());
    body
}

/// A token with its secret: this once.
fn shown_once(
    outcome: Outcome,
    token: &Token,
    claims: u32,
    text: &TokenText,
    revision: Revision,
) -> Reply {
    let mut body = with_revision(body(token, claims), revision);
    body.insert("token".into(), text.reveal().into());
    Reply::json(outcome, &body, revision)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tokens_are_random_and_follow_the_grammar() {
        let tokens: BTreeSet<String> = (0..100).map(|_| random_token().unwrap().reveal()).collect();
        assert_eq!(tokens.len(), 100);
        let letters: BTreeSet<char> = tokens.iter().flat_map(|token| token[4..].chars()).collect();
        assert_eq!(letters.len(), 33, "all 32, and the underscore");
        assert!(tokens.iter().all(|token| token.len() == 4 + ID_CHARS + 1 + SECRET_CHARS));
    }
}
