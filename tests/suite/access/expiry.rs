//! A token that ends while its requests wait: nobody would get the answer, so no permit may go to them.

use std::{sync::Arc, time::Duration};

use semaphored::{
    api::random_token,
    model::{
        ClaimId, ClaimRequest, Labels, Origin, Patterns, Permits, Priority, Scope, Scopes,
        SemaphoreName, SemaphoreSettings, Token, TokenBounds, TokenName, TokenOrigin, WallTime,
    },
    semaphore::{
        Asker, Attempt, Clock, Options, Refusal, Service, SetSettings, Tick,
        core::{Error, Now, Outcome},
    },
    storage::memory::MemoryDisk,
};

use super::Guarded;
use crate::daemon::poll;

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
#[test]
fn a_request_that_comes_beside_a_revocation_does_not_block() {
    let disk = MemoryDisk::new();
    let service = Service::start(
        Box::new(disk.open()),
        Arc::new(Stopped),
        Options::default(),
        Box::new(|_| {}),
    );
    let service = service.unwrap();
    let name = SemaphoreName::new("A").unwrap();
    let settings = || {
        let settings = SemaphoreSettings::with_capacity(1);
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
    let asker = Asker { token: Some(service.authenticate(&text, false).unwrap()), peer: None };
    let acquire = |id: &str| {
        let request = ClaimRequest {
            permits: Permits::new(vec![(name.clone(), 1)]).unwrap(),
            holder: None,
            labels: Labels::default(),
            priority: Priority::default(),
            ttl: None,
            queue_ttl: None,
            offer_ttl: None,
            wait_timeout: None,
            queue: true,
            callback: None,
            fingerprint: [0; 32],
        };
        let wait = Some(Duration::from_secs(50));
        service.acquire(ClaimId::new(id).unwrap(), request, wait, asker.clone())
    };
    assert!(matches!(acquire("first"), Attempt::Done(Ok((Outcome::Granted(_), _)))));
    assert!(matches!(acquire("second"), Attempt::Blocked(_)), "it waits while the token is right");
    service.revoke_token(text.id(), &nobody, None).unwrap();
    let beside = acquire("third");
    let Attempt::Done(Err(Refusal::Core(Error::TokenRefused, _))) = beside else {
        panic!("it does something with a token that is none any more");
    };
}
