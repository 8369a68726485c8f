//! `generic`: a signed event to any receiver of Standard Webhooks, or a body that the admin writes.
//!
//! The target's URL is called as it stands. Without a template the vars are `data.vars` of the event. The headers
//! of the signature are always there, over whatever the body is.

use super::{Call, JSON, Outgoing, Preset, SecretUse, Unfit, VARS_MAX};
use crate::callbacks::signature;

pub(super) static PRESET: Preset = Preset {
    name: "generic",
    docs: "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
    secret: SecretUse::WebhookKey,
    has_user: false,
    is_generic: true,
    needs: &[],
    reserved: &[],
    further_vars_max: VARS_MAX,
    request,
};

fn request(call: &Call<'_>) -> Result<Outgoing, Unfit> {
    let target = call.target;
    let body = match target.template() {
        Some(template) => template.render(call.event, call.vars).ok_or(Unfit::TooLong)?,
        None => call.event.body(call.vars),
    };
    let keys = target.keys().ok_or(Unfit::Secret)?;
    let signed = signature::headers(keys, &call.event.webhook_id, call.now, &body);
    let given = target.headers().iter();
    let mut headers: Vec<(String, String)> =
        given.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(JSON.0)) {
        headers.push((JSON.0.to_owned(), JSON.1.to_owned()));
    }
    let signed = signed.map_err(|_| Unfit::Secret)?;
    headers.extend(signed.map(|(name, value)| (name.to_owned(), value)));
    Ok(Outgoing { method: target.method(), url: target.url().clone(), headers, body })
}
