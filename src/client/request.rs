//! The body of the request for a claim.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Failure, options::ClaimOptions};
use crate::{
    cli::exit,
    model::{Callback, Holder, Priority, format_duration},
};

/// Whom to call, as the service wants to hear it.
#[derive(Serialize)]
#[serde(untagged)]
enum CallbackBody<'a> {
    Target {
        target: &'a str,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        vars: BTreeMap<&'a str, &'a str>,
    },
    Url {
        url: &'a str,
    },
}

impl CallbackBody<'_> {
    fn new(callback: &Callback) -> CallbackBody<'_> {
        match callback {
            Callback::Target { name, vars } => {
                CallbackBody::Target { target: name.as_str(), vars: vars.iter().collect() }
            }
            Callback::Url(url) => CallbackBody::Url { url: url.as_str() },
        }
    }
}

/// The body of the PUT: what was asked for and nothing else, so that defaults stay the service's.
pub(super) fn body(options: &ClaimOptions) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Body<'a> {
        permits: BTreeMap<&'a str, u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        holder: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        wait_timeout: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<i8>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<&'a str, &'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offer_ttl: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        callback: Option<CallbackBody<'a>>,
    }
    let body = Body {
        permits: options.permits.iter().map(|(name, weight)| (name.as_str(), weight)).collect(),
        holder: options.holder.as_ref().map(Holder::as_str),
        ttl: options.ttl.map(format_duration),
        wait_timeout: options.wait_timeout.map(format_duration),
        priority: options.priority.map(Priority::value),
        labels: options.labels.iter().collect(),
        queue: (!options.queue).then_some(false),
        offer_ttl: options.offer_ttl.map(format_duration),
        callback: options.callback.as_ref().map(CallbackBody::new),
    };
    serde_json::to_string(&body)
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot write the request: {error}")))
}
