//! What a callback tells: one thing that happened to one claim, and the body that says it.

use serde_json::{Map, Value};

use crate::model::{Vars, WallTime};

/// The name under which a started job finds its claim's id.
pub const CLAIM_ID_VAR: &str = "SEMAPHORE_CLAIM_ID";
/// The name under which a started job finds its fences, a JSON object.
pub const FENCES_VAR: &str = "SEMAPHORE_FENCES";

/// One event, the same for every try to deliver it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The event's id, the same for every try: receivers tell repetitions by it.
    pub webhook_id: String,
    /// `claim.offered` or `callback.test`.
    pub kind: &'static str,
    /// When it happened.
    pub occurred_at: WallTime,
    /// The claim.
    pub claim_id: String,
    /// Its holder.
    pub holder: Option<String>,
    /// Its fences, the text of a JSON object.
    pub fences_json: String,
    /// The claim as the API shows it: a JSON object.
    pub data: Value,
    /// What the client gave for this claim. Requests for a target take the callback's own.
    pub vars: Vars,
}

impl Event {
    /// The body of a signed event, after Standard Webhooks: `type`, `timestamp` and `data`, the claim. The vars, if
    /// there are any, are `data.vars`.
    #[must_use]
    pub fn body(&self, vars: &[(&str, &str)]) -> String {
        let mut data = self.data.clone();
        if let (Value::Object(members), false) = (&mut data, vars.is_empty()) {
            members.insert("vars".into(), object(vars.iter().copied()));
        }
        let timestamp = self.occurred_at.to_rfc3339();
        serde_json::json!({ "type": self.kind, "timestamp": timestamp, "data": data }).to_string()
    }

    /// Claim id and fences under the names that a job gets them by.
    pub(crate) fn job_vars(&self) -> [(&str, &str); 2] {
        [(CLAIM_ID_VAR, &self.claim_id), (FENCES_VAR, &self.fences_json)]
    }
}

/// Names and texts as a JSON object.
pub(crate) fn object<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let members = members.map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(members.collect::<Map<_, _>>())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An event for tests; its texts need escaping.
    pub(crate) fn sample() -> Event {
        Event {
            webhook_id: "evt_7f3c_1".into(),
            kind: "claim.offered",
            occurred_at: WallTime(1_795_492_253_120),
            claim_id: "7f3c".into(),
            holder: Some("job \"412\" \\ \u{fc}".into()),
            fences_json: r#"{"FlexLM-Riviera":8812}"#.into(),
            data: serde_json::json!({ "id": "7f3c", "state": "offered" }),
            vars: Vars::default(),
        }
    }

    #[test]
    fn the_body_of_a_signed_event() {
        let expected = serde_json::json!({
            "type": "claim.offered",
            "timestamp": "2026-11-24T03:50:53.120Z",
            "data": { "id": "7f3c", "state": "offered" },
        });
        let read = |body: &str| serde_json::from_str::<Value>(body).unwrap();
        assert_eq!(read(&sample().body(&[])), expected);
        let with_vars = read(&sample().body(&[("branch", "main")]));
        assert_eq!(with_vars["data"]["vars"], serde_json::json!({ "branch": "main" }));
    }
}
