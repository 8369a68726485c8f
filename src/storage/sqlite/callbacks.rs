//! The callback of an ended claim and what came of it, as the two JSON columns of the history.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

use crate::model::{
    Callback, CallbackRecord, CallbackUrl, Delivery, DeliveryFailure, DeliveryResult, Invalid,
    TargetName, Vars, WallTime,
};

/// `{"target": …, "vars": {…}}` or `{"url": …}`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Called {
    Target { target: String, vars: BTreeMap<String, String> },
    Url { url: String },
}

/// A delivery with an answer has a status, one that failed an error, one whose end nobody noted neither.
#[derive(Serialize, Deserialize)]
struct Tried {
    started_at_ms: i64,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The columns `callback` and `deliveries`.
///
/// # Errors
/// When they cannot be written as JSON, which no value of the model does.
pub(super) fn write(record: &CallbackRecord) -> serde_json::Result<(String, String)> {
    let called = match &*record.callback {
        Callback::Target { name, vars } => Called::Target {
            target: name.as_str().to_owned(),
            vars: vars.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        },
        Callback::Url(url) => Called::Url { url: url.as_str().to_owned() },
    };
    let tried: Vec<Tried> = record.deliveries.iter().map(tried).collect();
    Ok((serde_json::to_string(&called)?, serde_json::to_string(&tried)?))
}

fn tried(delivery: &Delivery) -> Tried {
    let (status, error) = match delivery.result {
        DeliveryResult::Answered { status } => (Some(status), None),
        DeliveryResult::Failed(failure) => (None, Some(failure.as_str().to_owned())),
        DeliveryResult::Unfinished => (None, None),
    };
    let duration_ms = u64::try_from(delivery.duration.as_millis()).unwrap_or(u64::MAX);
    Tried { started_at_ms: delivery.started_at.0, duration_ms, status, error }
}

/// Reads the columns; the error says what is wrong with them.
pub(super) fn read(callback: &str, deliveries: &str) -> Result<CallbackRecord, String> {
    let called: Called = serde_json::from_str(callback).map_err(|error| error.to_string())?;
    let tried: Vec<Tried> = serde_json::from_str(deliveries).map_err(|error| error.to_string())?;
    let callback = called.callback().map_err(|invalid| invalid.to_string())?;
    let deliveries = tried.into_iter().map(Tried::delivery).collect::<Option<_>>();
    let deliveries =
        deliveries.ok_or("a delivery has an error that is not known, or beside a status")?;
    Ok(CallbackRecord { callback: callback.into(), deliveries })
}

impl Called {
    fn callback(self) -> Result<Callback, Invalid> {
        Ok(match self {
            Called::Target { target, vars } => Callback::Target {
                name: TargetName::new(&target)?,
                vars: Vars::new(vars.into_iter().collect())?,
            },
            Called::Url { url } => Callback::Url(CallbackUrl::new(&url)?),
        })
    }
}

impl Tried {
    fn delivery(self) -> Option<Delivery> {
        let result = match (self.status, self.error) {
            (Some(status), None) => DeliveryResult::Answered { status },
            (None, Some(error)) => DeliveryResult::Failed(DeliveryFailure::from_text(&error)?),
            (None, None) => DeliveryResult::Unfinished,
            (Some(_), Some(_)) => return None,
        };
        let duration = Duration::from_millis(self.duration_ms);
        Some(Delivery { started_at: WallTime(self.started_at_ms), duration, result })
    }
}
