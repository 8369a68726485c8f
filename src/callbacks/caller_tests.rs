//! Callbacks whose configuration is replaced while they work.

use std::net::SocketAddr;

use super::*;
use crate::{
    callbacks::{
        SecretSettings, Settings, TargetSettings,
        lookups::Lookup,
        secret::{Secret, SecretSource},
        testing::{NO_CONTENT, Receiving},
        transport::Transport,
    },
    model::{DeliveryResult, ServiceTime, TargetName, WallTime},
    semaphore::{Clock, Options, Tick, core::Now},
    storage::memory::MemoryDisk,
};

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { service: ServiceTime::default(), wall: WallTime(1_000) }
    }

    fn tick(&self) -> Tick {
        Tick { now: self.now(), after_gap: false }
    }
}

/// Knows one address for every name.
struct Known(SocketAddr);

impl Lookup for Known {
    fn addresses(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![self.0])
    }
}

fn name() -> TargetName {
    TargetName::new("ci").unwrap()
}

fn registry() -> Registry {
    let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let target = TargetSettings {
        preset: "generic".into(),
        url: "http://ci.invalid/".into(),
        secrets: SecretSettings { present: Some(SecretSource::Inline(secret)), previous: None },
        allow_cidrs: vec!["127.0.0.0/8".into()],
        ..TargetSettings::default()
    };
    let targets = [(name(), target)].into_iter().collect();
    Registry::new(&Settings { targets, ..Settings::default() }).unwrap().0
}

fn service() -> Arc<Service> {
    let storage = Box::new(MemoryDisk::default().open());
    let fatal = Box::new(|error: &crate::storage::Error| panic!("{error}"));
    Arc::new(Service::start(storage, Arc::new(Still), Options::default(), fatal).unwrap())
}

fn test(callbacks: &Callbacks) -> DeliveryResult {
    let callback = Callback::Target { name: name(), vars: Vars::default() };
    callbacks.begin_test(callback).unwrap().run().delivery.result
}

/// What is being looked up counts on, so that reloads do not add up to more than the bounds.
#[test]
fn another_registry_goes_on_with_the_same_lookups() {
    let receiving = Receiving::answering(NO_CONTENT);
    let transport = Transport::with_lookup(Arc::new(Known(receiving.address)));
    let render: Render = Box::new(|_| serde_json::Value::Null);
    let registry_at_start = registry().with_transport(transport);
    let callbacks = Callbacks::start(&service(), registry_at_start, render).unwrap();
    assert_eq!(test(&callbacks), DeliveryResult::Answered { status: 204 });
    callbacks.replace(registry());
    assert_eq!(test(&callbacks), DeliveryResult::Answered { status: 204 });
}
