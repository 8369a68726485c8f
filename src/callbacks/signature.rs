//! Signed requests after Standard Webhooks, so that a receiver needs no code of ours to check them:
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//!
//! Three headers: `webhook-id`, the same for every try of one event; `webhook-timestamp`, when this try was made,
//! in whole seconds; `webhook-signature`, HMAC-SHA256 of `id.timestamp.body`. While a secret is replaced there
//! are two signatures, so that a receiver may take either. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::secret::{SecretProblem, WebhookKey};
use crate::model::WallTime;

/// The keys of a target: the present one, and the one before it while receivers change over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Signs first.
    pub present: WebhookKey,
    /// Signs too.
    pub previous: Option<WebhookKey>,
}

/// The three headers for `body`, sent at `now`.
///
/// # Errors
/// Never in practice: HMAC takes keys of every length.
pub fn headers(
    keys: &Keys,
    webhook_id: &str,
    now: WallTime,
    body: &str,
) -> Result<[(&'static str, String); 3], SecretProblem> {
    let seconds = now.0.div_euclid(1_000);
    let content = format!("{webhook_id}.{seconds}.{body}");
    let mut signatures = sign(&keys.present, &content)?;
    if let Some(previous) = &keys.previous {
        signatures = format!("{signatures} {}", sign(previous, &content)?);
    }
    Ok([
        ("webhook-id", webhook_id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signatures),
    ])
}

fn sign(key: &WebhookKey, content: &str) -> Result<String, SecretProblem> {
    let mac = Hmac::<Sha256>::new_from_slice(key.bytes());
    let mut mac = mac.map_err(|_| SecretProblem::WebhookKey)?;
    mac.update(content.as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callbacks::secret::Secret;

    fn key(text: &str) -> WebhookKey {
        WebhookKey::new(&Secret::new(text).unwrap()).unwrap()
    }

    /// The test of the reference libraries (`TestWebhookSign`).
    #[test]
    fn known_answer() {
        let present = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let keys = Keys { present, previous: None };
        let now = WallTime(1_614_265_330_999);
        let body = r#"{"test": 2432232314}"#;
        let headers = headers(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", now, body).unwrap();
        assert_eq!(headers[0], ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()));
        assert_eq!(headers[1], ("webhook-timestamp", "1614265330".to_owned()));
        assert_eq!(
            headers[2],
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned())
        );
    }

    #[test]
    fn while_a_secret_is_replaced_both_sign() {
        let old = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let new = key("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let sign = |present: &WebhookKey, previous: Option<&WebhookKey>| {
            let keys = Keys { present: present.clone(), previous: previous.cloned() };
            headers(&keys, "id", WallTime(0), "{}").unwrap()[2].1.clone()
        };
        let (with_old, with_new) = (sign(&old, None), sign(&new, None));
        assert_ne!(with_old, with_new);
        assert_eq!(sign(&new, Some(&old)), format!("{with_new} {with_old}"));
    }
}
