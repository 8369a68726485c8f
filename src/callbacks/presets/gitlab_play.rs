//! `gitlab-play`: starts a manual job of a GitLab pipeline that is there already.
//!
//! `POST {url}/projects/{project}/jobs/{job_id}/play` with the header `PRIVATE-TOKEN` and
//! `job_variables_attributes`, which GitLab has since 14.9. The target's URL is that of the API:
//! `https://gitlab.example/api/v4`. The job has the claim's id and fences as variables.

use serde_json::json;

use super::{Call, JSON, Need, Outgoing, Preset, SecretUse, Unfit, VARS_MAX, gitlab_trigger};

pub(super) static PRESET: Preset = Preset {
    name: "gitlab-play",
    docs: "https://docs.gitlab.com/api/jobs/#run-a-job",
    secret: SecretUse::Token,
    has_user: false,
    is_generic: false,
    needs: &[gitlab_trigger::PROJECT, JOB_ID],
    reserved: &[],
    further_vars_max: VARS_MAX,
    request,
};

const JOB_ID: Need = Need {
    name: "job_id",
    allowed: "a job's number, such as 412 (`$CI_JOB_ID` of the manual job)",
    fits: |text| (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
};

fn request(call: &Call<'_>) -> Result<Outgoing, Unfit> {
    let variables = call.for_the_job().map(|(key, value)| json!({ "key": key, "value": value }));
    let body = json!({ "job_variables_attributes": variables.collect::<Vec<_>>() }).to_string();
    let parts = ["projects", call.var("project")?, "jobs", call.var("job_id")?, "play"];
    call.post(&parts, &[("PRIVATE-TOKEN", call.token()?), JSON], body)
}
