//! A token that ends while its requests wait: nobody would get the answer, so no permit may go to them.

use std::{sync::Arc, time::Duration};

use semaphored::{
    api::random_token,
    model::{
        ClaimId, ClaimState, Origin, Patterns, Scope, Scopes, SemaphoreName, SemaphoreSettings,
        Token, TokenBounds, TokenName, TokenOrigin, TokenText, WallTime,
    },
    semaphore::{
        Asker, Attempt, ClaimLook, Clock, Options, Refusal, Service, SetSettings, Tick,
        core::{Error, Now, Outcome},
    },
    storage::memory::MemoryDisk,
};

use super::Guarded;
use crate::{daemon::poll, plain_request::plain_request};

/// Time stands still.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Now {
        Now::default()
    }

    fn tick(&self) -> Tick {
        Tick { now: Now::default(), after_gap: false }
    }
}

const LONG: &str = r#"{"permits": {"A": 1}, "ttl": "1h"}"#;

/// Else the permit would be away for a whole lease.
#[test]
fn a_token_that_ends_while_it_waits_gets_no_permit() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    guarded.admin(201, "PUT", "/api/v1/claims/first", LONG);
    let short = guarded.token("claim", r#", "expires_in": 2"#);
    let waits = guarded.call_later(&short.token, "PUT", "/api/v1/claims/second?wait=50", LONG);
    guarded.wait_for_blocked(1);
    let later = guarded.call_later(&guarded.admin, "PUT", "/api/v1/claims/third?wait=50", LONG);
    guarded.wait_for_blocked(2);
    poll("the token to expire", || {
        let answer = guarded.call(&short.token, "GET", "/api/v1/token", "");
        (answer.status == 401).then_some(())
    });
    guarded.admin(204, "DELETE", "/api/v1/claims/first", "");
    let granted = later.join().unwrap();
    assert_eq!(granted.status, 201, "{granted:?}");
    assert_ne!(guarded.look("/api/v1/claims/second")["state"], "held");
    let told = waits.join().unwrap();
    assert_eq!((told.status, told.code().as_str()), (401, "token-expired"));
}

/// A request that was let in just before its token was revoked is not seen by those who end the token's requests: it must
/// not block, or a permit would go to it.
/// A service without a daemon, with one semaphore and one token.
struct Bare {
    service: Service,
    name: SemaphoreName,
    text: TokenText,
    /// Whoever has the token.
    farm: Asker,
}

impl Bare {
    fn new(capacity: u32) -> Bare {
        let storage = Box::new(MemoryDisk::new().open());
        let clock = Arc::new(Stopped);
        let service = Service::start(storage, clock, Options::default(), Box::new(|_| {})).unwrap();
        let name = SemaphoreName::new("A").unwrap();
        let settings = || {
            let settings = SemaphoreSettings::with_capacity(capacity);
            Ok(SetSettings { settings, origin: Origin::Api, audit: None })
        };
        let nobody = Asker::default();
        service.set_semaphore::<Refusal>(&name, false, &nobody, &|_| settings()).unwrap();
        let text = random_token().unwrap();
        let token = Token {
            id: text.id().clone(),
            hash: text.hash(),
            name: TokenName::new("farm").unwrap(),
            scopes: Scopes::new([Scope::Claim]).unwrap(),
            patterns: Patterns::all(),
            bounds: TokenBounds::default(),
            expires_at: None,
            origin: TokenOrigin::Api,
            created_at: WallTime::default(),
            last_used_at: None,
        };
        service.set_token(token, &nobody, None).unwrap();
        let token = Some(service.authenticate(&text, false).unwrap());
        Bare { service, name, text, farm: Asker { token, ..Asker::default() } }
    }

    fn acquire(&self, asker: &Asker, id: &str, weight: u32, wait: Option<Duration>) -> Attempt {
        let request = plain_request(vec![(self.name.clone(), weight)]);
        self.service.acquire(ClaimId::new(id).unwrap(), request, wait, asker.clone())
    }
}

const WAIT: Option<Duration> = Some(Duration::from_secs(50));

#[test]
fn a_request_that_comes_beside_a_revocation_does_not_block() {
    let bare = Bare::new(1);
    let acquire = |id: &str| bare.acquire(&bare.farm, id, 1, WAIT);
    assert!(matches!(acquire("first"), Attempt::Done(Ok((Outcome::Granted(_), _)))));
    assert!(matches!(acquire("second"), Attempt::Blocked(_)), "it waits while the token is right");
    bare.service.revoke_token(bare.text.id(), &Asker::default(), None).unwrap();
    let beside = acquire("third");
    let Attempt::Done(Err(Refusal::Core(Error::TokenRefused, _))) = beside else {
        panic!("it does something with a token that is none any more");
    };
}

/// The token waits for two claims: one of its own, and behind it one that belongs to nobody. The end of the first must not give
/// the second its permit through a request of a token that is none any more.
#[test]
fn what_a_revoked_token_waited_for_in_the_name_of_nobody_is_offered_and_not_held() {
    let bare = Bare::new(2);
    let nobody = Asker::default();
    let held = bare.acquire(&nobody, "held", 1, None);
    assert!(matches!(held, Attempt::Done(Ok((Outcome::Granted(_), _)))));
    let own = bare.acquire(&bare.farm, "own", 2, WAIT);
    assert!(matches!(own, Attempt::Blocked(_)));
    let behind = bare.acquire(&nobody, "behind", 1, None);
    assert!(matches!(behind, Attempt::Done(Ok((Outcome::Waiting { .. }, _)))));
    let id = ClaimId::new("behind").unwrap();
    let wait = bare.service.renew(id.clone(), (None, None), WAIT, bare.farm.clone(), None);
    assert!(matches!(wait, Attempt::Blocked(_)));
    bare.service.revoke_token(bare.text.id(), &nobody, None).unwrap();
    let ClaimLook::Live(claim) = bare.service.look(&id, &nobody).unwrap().what else {
        panic!("it has ended");
    };
    assert!(!matches!(claim.claim.state, ClaimState::Held { .. }), "{:?}", claim.claim.state);
}
