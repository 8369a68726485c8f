//! `github-dispatch`: starts the workflows of a GitHub repository that run on `repository_dispatch`.
//!
//! `POST {url}/repos/{owner}/{repo}/dispatches` with `event_type` and `client_payload`. The target's URL is
//! `https://api.github.com`, or `https://github.example/api/v3` of a server of one's own. A workflow finds
//! the claim's id as `github.event.client_payload.claim_id` and the fences, a text, as
//! `github.event.client_payload.fences`; further vars stand beside them, under their names. GitHub takes ten members.

use serde_json::json;

use super::{Call, JSON, Need, Outgoing, Preset, SecretUse, Unfit, is_path};
use crate::callbacks::event;

const PAYLOAD_MEMBERS_MAX: usize = 10;
const OWN_MEMBERS: &[&str] = &["claim_id", "fences"];
/// The version of the REST API whose shapes these are.
const API_VERSION: (&str, &str) = ("X-GitHub-Api-Version", "2022-11-28");
const ACCEPT: (&str, &str) = ("Accept", "application/vnd.github+json");

pub(super) static PRESET: Preset = Preset {
    name: "github-dispatch",
    docs: "https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event",
    secret: SecretUse::Token,
    has_user: false,
    is_generic: false,
    needs: &[REPOSITORY, EVENT_TYPE],
    reserved: OWN_MEMBERS,
    further_vars_max: PAYLOAD_MEMBERS_MAX - OWN_MEMBERS.len(),
    request,
};

const REPOSITORY: Need = Need {
    name: "repository",
    allowed: "owner/repository",
    fits: |text| {
        text.matches('/').count() == 1
            && is_path(text, |b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    },
};

const EVENT_TYPE: Need = Need {
    name: "event_type",
    allowed: "1 to 100 characters, the `types` of the workflow's `repository_dispatch`",
    fits: |text| (1..=100).contains(&text.chars().count()),
};

fn request(call: &Call<'_>) -> Result<Outgoing, Unfit> {
    let own = [
        (OWN_MEMBERS[0], call.event.claim_id.as_str()),
        (OWN_MEMBERS[1], call.event.fences_json.as_str()),
    ];
    let payload = event::object(own.into_iter().chain(call.further()));
    let body = json!({ "event_type": call.var("event_type")?, "client_payload": payload });
    let parts: Vec<&str> = call.var("repository")?.split('/').collect();
    let (owner, repository) = match parts[..] {
        [owner, repository] => (owner, repository),
        _ => return Err(Unfit::VarMissing("repository")),
    };
    let authorization = format!("Bearer {}", call.token()?);
    let headers = [("Authorization", authorization.as_str()), ACCEPT, API_VERSION, JSON];
    call.post(&["repos", owner, repository, "dispatches"], &headers, body.to_string())
}
