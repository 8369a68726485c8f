//! Tokens: whether a secret is right, how often it is used, and what becomes of its requests when it is revoked.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Asker, Refusal, Seen, Service, Shared,
    core::{Behalf, Command, Error, Outcome},
    gates::Role,
    state::State,
};
use crate::model::{
    Actor, AuditEntry, Note, Scope, SecretHash, Token, TokenId, TokenText, WallTime,
};

/// For how long a token may make requests faster than its bound, if it made none before.
const BURST: Duration = Duration::from_secs(10);

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// There is none of this id and secret.
    Unknown,
    /// Its time is over.
    Expired {
        /// Which.
        token: Arc<Token>,
        /// Since when.
        at: WallTime,
    },
    /// It makes more requests than it may.
    TooManyRequests {
        /// Which.
        token: Arc<Token>,
        /// The bound.
        per_second_max: u32,
    },
}

/// How tokens are used: not on disk but for when it was last.
#[derive(Default)]
pub(super) struct Uses(HashMap<TokenId, Use>);

struct Use {
    last: WallTime,
    /// Whether the core knows.
    is_noted: bool,
    /// When the requests so far would be through if they came at the highest rate (generic cell rate algorithm, ITU-T
    /// I.371).
    through_at: Instant,
}

impl Uses {
    /// Notes a use; `false` if it is one too many.
    fn note(
        &mut self,
        id: &TokenId,
        (wall, now): (WallTime, Instant),
        per_second_max: u32,
    ) -> bool {
        let interval = Duration::from_secs(1) / per_second_max.max(1);
        if let Some(used) = self.0.get_mut(id) {
            let through_at = used.through_at.max(now) + interval;
            if through_at > now + BURST {
                return false;
            }
            *used = Use { last: wall, is_noted: used.is_noted && used.last == wall, through_at };
        } else {
            let used = Use { last: wall, is_noted: false, through_at: now + interval };
            self.0.insert(id.clone(), used);
        }
        true
    }

    fn forget(&mut self, id: &TokenId) {
        self.0.remove(id);
    }

    /// What the core does not know yet.
    fn take_news(&mut self) -> Vec<(TokenId, WallTime)> {
        let news = self.0.iter_mut().filter(|(_, used)| !used.is_noted);
        let mut news: Vec<_> = news
            .map(|(id, used)| {
                used.is_noted = true;
                (id.clone(), used.last)
            })
            .collect();
        news.sort();
        news
    }
}

impl Service {
    /// Whether this is a token, and may be used now. What `is_exempt` counts for no bound: a release or a renewal is never
    /// refused for what else its token does.
    ///
    /// # Errors
    /// When it may not.
    pub fn authenticate(
        &self,
        text: &TokenText,
        is_exempt: bool,
    ) -> Result<Arc<Token>, TokenRefusal> {
        // Whether the id is known must not show in the time that this takes.
        let hash = text.hash();
        let mut state = self.shared.state.lock();
        let now = self.shared.clock.now().wall;
        let token = state.core.token(text.id()).filter(|token| token.hash == hash);
        let token = Arc::clone(token.ok_or(TokenRefusal::Unknown)?);
        expired(&token, now)?;
        let per_second_max = self.shared.options.token_requests_per_second_max;
        // Counted against no bound: only when it was.
        let counted_max = if is_exempt { u32::MAX } else { per_second_max };
        if !state.uses.note(&token.id, (now, Instant::now()), counted_max) && !is_exempt {
            return Err(TokenRefusal::TooManyRequests { token, per_second_max });
        }
        Ok(token)
    }

    /// A token as it is now, if one that was right when a request began still is.
    ///
    /// # Errors
    /// When it is not.
    pub fn present_token(&self, token: &Token) -> Result<Arc<Token>, TokenRefusal> {
        let state = self.shared.state.lock();
        match state.core.token(&token.id) {
            Some(present) if present.hash == token.hash => {
                expired(present, self.shared.clock.now().wall)?;
                Ok(Arc::clone(present))
            }
            _ => Err(TokenRefusal::Unknown),
        }
    }

    /// All tokens, by id, with when they were used last, and how many live claims each has.
    #[must_use]
    pub fn tokens(&self) -> Seen<Vec<(Arc<Token>, u32)>> {
        let mut state = self.shared.state.lock();
        self.shared.note_uses(&mut state);
        let claims = |token: &Arc<Token>| state.core.claims_of_token(&token.id);
        let tokens = state.core.tokens().map(|token| (Arc::clone(token), claims(token)));
        Seen { what: tokens.collect(), revision: state.core.revision() }
    }

    /// A token by its id, with how many live claims it has.
    #[must_use]
    pub fn token(&self, id: &TokenId) -> Seen<Option<(Arc<Token>, u32)>> {
        let state = self.shared.state.lock();
        let token = state.core.token(id).cloned();
        let what = token.map(|token| (token, state.core.claims_of_token(id)));
        Seen { what, revision: state.core.revision() }
    }

    /// Makes a token, or changes one. If that takes a scope from it, its requests that wait end; but not those for claims
    /// that it may still hold.
    ///
    /// # Errors
    /// A bound of the core.
    pub fn set_token(
        &self,
        token: Token,
        asker: &Asker,
        audit: Option<Box<AuditEntry>>,
    ) -> Result<Seen<Arc<Token>>, Refusal> {
        let mut state = self.shared.state.lock();
        if state.core.token(&token.id).is_none() {
            self.shared.make_room(&mut state, asker);
        }
        self.shared.set_token(&mut state, token, asker.acts(audit))
    }

    /// Gives a token another secret. The old one is refused from now on, also of requests that wait.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn rotate_token(
        &self,
        id: &TokenId,
        hash: SecretHash,
        asker: &Asker,
        audit: Option<Box<AuditEntry>>,
    ) -> Result<Seen<Arc<Token>>, Refusal> {
        let mut state = self.shared.state.lock();
        let Some(token) = state.core.token(id) else {
            return Err(state.refusal(Error::UnknownToken(id.clone())));
        };
        let token = Token { hash, ..Token::clone(token) };
        let seen = self.shared.set_token(&mut state, token, asker.acts(audit))?;
        self.shared.end_requests(&mut state, id, None);
        Ok(seen)
    }

    /// Revokes a token: it is refused from now on, also of requests that wait. Its held claims run to the end of their
    /// leases.
    ///
    /// # Errors
    /// When there is no such token.
    pub fn revoke_token(
        &self,
        id: &TokenId,
        asker: &Asker,
        audit: Option<Box<AuditEntry>>,
    ) -> Result<Seen<()>, Refusal> {
        let mut state = self.shared.state.lock();
        if state.core.token(id).is_some() {
            // Before its claims end, and permits with them: none of those may go to another wait of it.
            self.shared.end_requests(&mut state, id, None);
        }
        let command = Command::RevokeToken { id: id.clone() };
        self.shared
            .apply_for(&mut state, asker.acts(audit), command)
            .1
            .map_err(|error| state.refusal(error))?;
        state.uses.forget(id);
        Ok(Seen { what: (), revision: state.core.revision() })
    }
}

fn expired(token: &Arc<Token>, now: WallTime) -> Result<(), TokenRefusal> {
    match token.expires_at {
        Some(at) if token.has_expired(now) => {
            Err(TokenRefusal::Expired { token: Arc::clone(token), at })
        }
        _ => Ok(()),
    }
}

impl Shared {
    /// Where there are too many tokens, revokes one that nobody misses.
    fn make_room(&self, state: &mut State, asker: &Asker) {
        let now = self.clock.now().wall;
        let Some(token) = state.core.token_in_the_way(now).cloned() else { return };
        let object = format!("token {}", token.id);
        let row = AuditEntry::done(Actor::Daemon, "token.revoke", object);
        let reason = Note::new("expired, and another needs its place (tokens_max)").ok();
        let behalf = asker.acts(Some(Box::new(AuditEntry { reason, ..row })));
        let command = Command::RevokeToken { id: token.id.clone() };
        match self.apply_for(state, behalf, command).1 {
            Ok(_) => {
                state.uses.forget(&token.id);
                log::info!(
                    "revoked the token {:?}: it has expired, and another needs its place",
                    token.name.as_str()
                );
            }
            Err(error) => log::error!("a token was not revoked: {error}"),
        }
    }

    fn set_token(
        &self,
        state: &mut State,
        token: Token,
        behalf: Behalf,
    ) -> Result<Seen<Arc<Token>>, Refusal> {
        let token = Arc::new(token);
        let loses = state
            .core
            .token(&token.id)
            .is_some_and(|present| present.scopes.iter().any(|scope| !token.allows(scope)));
        let command = Command::SetToken { token: Arc::clone(&token) };
        match self.apply_for(state, behalf, command).1 {
            Ok(Outcome::Registered | Outcome::Done) => {
                if loses {
                    self.end_requests(state, &token.id, Some(&token));
                }
                Ok(Seen { what: token, revision: state.core.revision() })
            }
            Ok(_) => Err(Refusal::Stopping),
            Err(error) => Err(state.refusal(error)),
        }
    }

    /// Ends the requests of a token that wait, as if their clients had hung up: no permit goes to them, and whoever runs
    /// them finds that the token is refused. Where it is not, but does less from now on, those go on that keep a place in
    /// a queue which is still its: who is behind them must not overtake them.
    fn end_requests(&self, state: &mut State, id: &TokenId, remaining: Option<&Token>) {
        let State { core, gates, .. } = &mut *state;
        let may_hold = |sequence| {
            remaining.filter(|token| token.allows(Scope::Claim)).is_some_and(|token| {
                let view = core.claim_by_sequence(sequence);
                view.is_some_and(|view| token.may_use(view.claim))
            })
        };
        // All before the core hears of the first: else it would grant to the second.
        let mut ended =
            gates.entries_of(id, |sequence, role| role == Role::Watcher || !may_hold(sequence));
        ended.retain(|entry| gates.end(*entry));
        for entry in ended {
            self.unblock(state, entry, true);
        }
        self.pulse.announce();
    }

    /// Tells the core when tokens were used. From time to time: a commit for each request would cost as much as the
    /// request.
    pub(super) fn note_uses(&self, state: &mut State) {
        let used = state.uses.take_news();
        if used.is_empty() {
            return;
        }
        if let Err(error) = self.apply(state, Command::NoteTokensUsed { used }).1 {
            log::error!("noting the use of tokens was refused: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_over_a_while_and_may_come_in_bursts() {
        let mut uses = Uses::default();
        let id = TokenId::new("abcd").unwrap();
        let (wall, now) = (WallTime(1_000), Instant::now());
        let burst = (0..1_000).take_while(|_| uses.note(&id, (wall, now), 10)).count();
        assert_eq!(burst, 100);
        let later = now + Duration::from_secs(1);
        let more = (0..1_000).take_while(|_| uses.note(&id, (wall, later), 10)).count();
        assert_eq!(more, 10);
    }

    #[test]
    fn a_use_is_told_once() {
        let mut uses = Uses::default();
        let id = TokenId::new("abcd").unwrap();
        let now = Instant::now();
        assert!(uses.note(&id, (WallTime(1), now), 10));
        assert_eq!(uses.take_news(), [(id.clone(), WallTime(1))]);
        assert_eq!(uses.take_news(), []);
        assert!(uses.note(&id, (WallTime(2), now), 10));
        assert_eq!(uses.take_news(), [(id, WallTime(2))]);
    }
}
