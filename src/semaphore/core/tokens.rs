//! Tokens, and which claims they have.
//!
//! Whether a request's secret is right, and what its scopes allow, is decided before a command is made. What depends on
//! the state is decided here: to whom a claim belongs, who may confirm it, and how many a token has.

use std::{collections::BTreeSet, sync::Arc};

use super::{Command, Core, Error, Live, Outcome, Tx};
use crate::model::{
    Claim, ClaimEvent, ClaimId, ClaimState, EndReason, Event, Scope, SemaphoreName, Sequence,
    Token, TokenId, TokenOrigin, WallTime,
};

impl Core {
    /// A token by its id.
    #[must_use]
    pub fn token(&self, id: &TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(id)
    }

    /// All tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    /// A token as it is now, if it is as it was: not revoked, not rotated, not expired.
    fn good(&self, token: &Token, now: WallTime) -> Option<&Arc<Token>> {
        let present = self.tokens.get(&token.id)?;
        (present.hash == token.hash && !present.has_expired(now)).then_some(present)
    }

    /// Whether a token is as it was: not revoked, not rotated, not expired.
    #[must_use]
    pub fn is_good(&self, token: &Token, now: WallTime) -> bool {
        self.good(token, now).is_some()
    }

    /// Whether a token is good and may, as it is now, hold claims.
    #[must_use]
    pub fn may_hold(&self, token: &Token, now: WallTime) -> bool {
        self.good(token, now).is_some_and(|present| present.allows(Scope::Claim))
    }

    /// A token as it is now, if it is good and may make the command of a claim's holder.
    pub(super) fn present(
        &self,
        token: &Token,
        now: WallTime,
        command: &Command,
    ) -> Result<Arc<Token>, Error> {
        let is_holders = matches!(
            command,
            Command::Acquire { .. } | Command::Renew { .. } | Command::Release { .. }
        );
        let present = self.good(token, now);
        let present = present.filter(|present| !is_holders || present.allows(Scope::Claim));
        present.cloned().ok_or(Error::TokenRefused)
    }

    /// How many live claims a token has.
    #[must_use]
    pub fn claims_of_token(&self, id: &TokenId) -> u32 {
        self.owned.get(id).copied().unwrap_or_default()
    }

    pub(super) fn set_token(
        &mut self,
        tx: &mut Tx<'_>,
        token: Arc<Token>,
    ) -> Result<Outcome, Error> {
        let outcome = match self.tokens.get(&token.id) {
            Some(present) if *present == token => return Ok(Outcome::Done),
            Some(_) => Outcome::Done,
            None if self.are_tokens_full() => {
                return Err(Error::Full { bound: "tokens_max", limit: self.limits.tokens_max });
            }
            None => Outcome::Registered,
        };
        let (id, may_hold) = (token.id.clone(), token.allows(Scope::Claim));
        self.emit(tx, Event::TokenSet { token });
        if !may_hold {
            self.end_waits(tx, &id);
        }
        Ok(outcome)
    }

    fn are_tokens_full(&self) -> bool {
        self.tokens.len() >= self.limits.tokens_max
    }

    /// Where there are as many tokens as may be, that which can make room for another: of those that have expired and have no
    /// claims the first. Nobody needs to be told of it any more.
    #[must_use]
    pub fn token_in_the_way(&self, now: WallTime) -> Option<&Arc<Token>> {
        let is_over = |token: &&Arc<Token>| {
            // One of the configuration would be missing there without a word.
            token.origin == TokenOrigin::Api
                && token.has_expired(now)
                && self.claims_of_token(&token.id) == 0
        };
        if !self.are_tokens_full() {
            return None;
        }
        self.tokens.values().filter(is_over).min_by_key(|token| token.expires_at)
    }

    pub(super) fn revoke_token(&mut self, tx: &mut Tx<'_>, id: TokenId) -> Result<Outcome, Error> {
        if !self.tokens.contains_key(&id) {
            return Err(Error::UnknownToken(id));
        }
        self.emit(tx, Event::TokenRevoked { id: id.clone() });
        self.end_waits(tx, &id);
        Ok(Outcome::Done)
    }

    /// Ends what a token waits for and what is offered to it: a callback would start a job for whoever is not let in any
    /// more.
    fn end_waits(&mut self, tx: &mut Tx<'_>, id: &TokenId) {
        if self.claims_of_token(id) == 0 {
            return;
        }
        let is_its = |live: &&Live| {
            let is_held = matches!(live.claim.state, ClaimState::Held { .. });
            !is_held && live.claim.owner.as_ref() == Some(id)
        };
        let its = self.claims.values().filter(is_its).map(|live| live.claim.sequence);
        let its: Vec<Sequence> = its.collect();
        let mut touched = BTreeSet::new();
        for sequence in its {
            touched.extend(self.end(tx, sequence, EndReason::Revoked, None));
        }
        self.settle_semaphores(tx, &touched);
    }

    pub(super) fn note_tokens_used(
        &mut self,
        tx: &mut Tx<'_>,
        mut used: Vec<(TokenId, WallTime)>,
    ) -> Outcome {
        used.retain(|(id, _)| self.tokens.contains_key(id));
        if !used.is_empty() {
            self.emit(tx, Event::TokensUsed { used: used.into() });
        }
        Outcome::Done
    }

    pub(super) fn apply_tokens_used(&mut self, used: &[(TokenId, WallTime)]) {
        for (id, at) in used {
            if let Some(token) = self.tokens.get_mut(id) {
                Arc::make_mut(token).last_used_at = Some(*at);
            }
        }
    }

    /// Has a claim belong to the token on whose behalf the command is made.
    pub(super) fn own(&mut self, tx: &mut Tx<'_>, sequence: Sequence) {
        if let Some(token) = tx.by.as_ref().map(|token| token.id.clone()) {
            let event = ClaimEvent::OwnerSet { token };
            self.emit(tx, Event::Claim { sequence, event });
        }
    }

    /// Whether another claim may belong to the token on whose behalf the command is made.
    pub(super) fn check_owned(&self, tx: &Tx<'_>) -> Result<(), Error> {
        let Some(token) = &tx.by else { return Ok(()) };
        match token.bounds.claims_max {
            Some(claims_max) if self.claims_of_token(&token.id) >= claims_max => {
                Err(Error::TokenClaimsFull { claims_max })
            }
            _ => Ok(()),
        }
    }

    /// Whether the token sees all of these claims. One for some semaphores ends none that is about others too.
    pub(super) fn check_seen(
        &self,
        tx: &Tx<'_>,
        name: &SemaphoreName,
        claims: &[Sequence],
    ) -> Result<(), Error> {
        let Some(token) = &tx.by else { return Ok(()) };
        let live = claims.iter().filter_map(|sequence| self.claims.get(sequence));
        match live.filter(|live| !token.covers(&live.claim)).count() {
            0 => Ok(()),
            claims => Err(Error::HiddenClaims { name: name.clone(), claims }),
        }
    }

    /// One live claim more or less.
    pub(super) fn count(&mut self, claim: &Claim, is_more: bool) {
        let bytes = claim.text_bytes();
        self.text_bytes = match is_more {
            true => self.text_bytes.saturating_add(bytes),
            false => self.text_bytes.saturating_sub(bytes),
        };
        self.count_owned(claim.owner.as_ref(), is_more);
    }

    /// One claim more or less of its owner.
    pub(super) fn count_owned(&mut self, owner: Option<&TokenId>, is_more: bool) {
        let Some(owner) = owner else { return };
        let count = self.claims_of_token(owner);
        match if is_more { count.saturating_add(1) } else { count.saturating_sub(1) } {
            0 => self.owned.remove(owner),
            count => self.owned.insert(owner.clone(), count),
        };
    }
}

/// Whether a claim that is there belongs to whoever makes the same request again.
pub(super) fn is_same_owner(tx: &Tx<'_>, claim: &Claim) -> bool {
    match (&tx.by, &claim.owner) {
        (Some(token), Some(owner)) => token.id == *owner,
        (None, _) | (_, None) => true,
    }
}

/// Whether the command may see and end a claim. If not, there is none for it.
pub(super) fn check_use(tx: &Tx<'_>, claim: &Claim, id: &ClaimId) -> Result<(), Error> {
    match &tx.by {
        Some(token) if !token.may_use(claim) => Err(Error::UnknownClaim(id.clone())),
        _ => Ok(()),
    }
}

/// Whether a renew makes the claim that of another token: the job that a callback has started confirms it with the token
/// that it has.
pub(super) fn is_taken_over(tx: &Tx<'_>, claim: &Claim) -> bool {
    let is_offered = matches!(claim.state, ClaimState::Offered { .. });
    let is_others = !is_same_owner(tx, claim);
    let covers = || tx.by.as_ref().is_some_and(|token| token.covers(claim));
    is_others && is_offered && claim.callback.is_some() && covers()
}
