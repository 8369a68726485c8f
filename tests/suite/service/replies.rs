//! What the API's replies rest on: none is sent that a crash could undo.

use std::sync::{Arc, mpsc};

use semaphored::{
    api::{self, Api, Call, Calls, Endpoint, Step},
    callbacks::{
        Callbacks, Registry, SecretSettings, Settings, TargetSettings,
        secret::{Secret, SecretSource},
    },
    model::{
        Patterns, Revision, Scope, Scopes, TargetName, Token, TokenBounds, TokenName, TokenOrigin,
        TokenText, WallTime,
    },
    semaphore::{Asker, Attempt, Service, core::Outcome},
    storage::AuditFilter,
};

use super::{Bench, called_back, id};
use crate::{
    daemon::{DEADLINE, poll},
    fake_service::{FakeService, Reply},
};

/// The API without tokens.
fn api_of(service: &Arc<Service>, registry: Registry) -> Api {
    let callbacks = Callbacks::start(service, registry, Box::new(api::claim_json));
    let options = api::Options { auth: api::Auth::Off, ..api::Options::default() };
    Api::new(Arc::clone(service), Arc::new(callbacks.unwrap()), options)
}

fn call(endpoint: Endpoint) -> Call {
    Call {
        endpoint,
        method: String::new(),
        path: String::new(),
        credentials: api::Credentials::None,
        address: None,
        query: Vec::new(),
        prefer_wait: None,
        body: Vec::new(),
        peer: None,
    }
}

/// A refusal tells what is there, too: that a semaphore is gone, that a lease would be too long now.
#[test]
fn no_refusal_is_answered_that_a_failed_commit_could_undo() {
    let patch = |body: &str| (Endpoint::PatchSemaphore("A".into()), body.to_owned());
    let remove = (Endpoint::DeleteSemaphore("A".into()), String::new());
    for (change, refused) in [
        (remove, patch(r#"{"cooldown": 1}"#)),
        (patch(r#"{"max_ttl": 10, "default_ttl": 10}"#), patch(r#"{"default_ttl": 60}"#)),
    ] {
        let Bench { disk, service, failed, .. } = Bench::new();
        let api = api_of(&service, Registry::default());
        let call = |(endpoint, body): (Endpoint, String)| -> api::Reply {
            match api.handle(Call { body: body.into(), ..call(endpoint) }) {
                Step::Done(reply) => reply,
                Step::Blocked(_) => panic!("it blocks"),
            }
        };
        poll("the first commit", || (service.committed() > Revision(0)).then_some(()));
        disk.fail_next_append(false);
        let changed = call(change);
        assert!(changed.result.is_ok());
        failed.recv_timeout(DEADLINE).unwrap();
        let refused = call(refused);
        assert!(refused.result.is_err());
        assert!(refused.after > service.committed(), "{refused:?} would be sent");
    }
}

/// A test of a target starts a job, and the audit log says who did: before the job is there, whatever fails then.
#[test]
fn a_callback_test_does_not_begin_before_its_row_is_on_disk() {
    let receiver = FakeService::start(|_| Reply::no_content());
    let target = TargetName::new("ci").unwrap();
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let present = Some(SecretSource::Inline(secret));
    let ci = TargetSettings {
        preset: "generic".into(),
        url: format!("{}/hook", receiver.url()),
        secrets: SecretSettings { present, previous: None },
        allow_cidrs: vec!["127.0.0.0/8".into()],
        ..TargetSettings::default()
    };
    let settings = Settings { targets: [(target, ci)].into(), ..Settings::default() };
    let (registry, _) = Registry::new(&settings).unwrap();
    let Bench { disk, service, failed, .. } = Bench::new();
    let api = api_of(&service, registry);
    let test = || match api.handle(call(Endpoint::TestTarget("ci".into()))) {
        Step::Blocked(blocked) => blocked,
        Step::Done(reply) => panic!("it does not block: {reply:?}"),
    };
    let before = service.status().revision;
    let tested = test().wait();
    assert!(tested.result.is_ok(), "{tested:?}");
    assert!(tested.after > before && tested.after <= service.committed(), "{tested:?}");
    assert_eq!(receiver.calls().len(), 1);

    disk.fail_next_append(false);
    let (sender, answered) = mpsc::channel();
    let blocked = test();
    // It waits for ever: the process would end.
    std::thread::spawn(move || sender.send(blocked.wait().after));
    failed.recv_timeout(DEADLINE).unwrap();
    assert_eq!(answered.try_recv(), Err(mpsc::TryRecvError::Empty));
    assert_eq!(receiver.calls().len(), 1, "a job was started that the audit log does not know of");
}

#[test]
fn a_retry_is_answered_when_its_row_is_on_disk() {
    let Bench { service, .. } = Bench::new();
    let [boss, farm] = [("boss", Scope::Admin), ("farm", Scope::Claim)].map(|(id, scope)| {
        let secret = format!("sem_{id}_0123456789abcdefghijklmnopqrstuv");
        let text = TokenText::parse(&secret).unwrap();
        let token = Token {
            id: text.id().clone(),
            hash: text.hash(),
            name: TokenName::new(id).unwrap(),
            scopes: Scopes::new([scope]).unwrap(),
            patterns: Patterns::all(),
            bounds: TokenBounds::default(),
            expires_at: None,
            origin: TokenOrigin::Api,
            created_at: WallTime(0),
            last_used_at: None,
        };
        let token = service.set_token(token, &Asker::default(), None).unwrap().what;
        (text, token)
    });
    let asker = Asker { token: Some(farm.1), ..Asker::default() };
    let made = service.acquire(id("a"), called_back(), None, asker);
    assert!(matches!(made, Attempt::Done(Ok((Outcome::Offered(_), _)))));
    let options = api::Options::default();
    let callbacks = Callbacks::start(&service, Registry::default(), Box::new(api::claim_json));
    let api = Api::new(Arc::clone(&service), Arc::new(callbacks.unwrap()), options);
    let endpoint = Endpoint::RetryDelivery("a".into(), "1".into());
    let credentials = api::Credentials::Token(boss.0);
    let Step::Done(reply) = api.handle(Call { credentials, ..call(endpoint) }) else {
        panic!("it blocks");
    };
    assert!(reply.result.is_ok(), "{reply:?}");
    let rows = service.audit(&AuditFilter { rows_max: 10, ..AuditFilter::default() }).unwrap().what;
    let row = rows.iter().find(|row| &*row.entry.action == "delivery.retry").unwrap();
    assert!(reply.after >= row.revision, "{reply:?} would be sent before {row:?} is safe");
}
