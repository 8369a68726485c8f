//! `gitlab-trigger`: starts a GitLab pipeline with a trigger token.
//!
//! `POST {url}/projects/{project}/trigger/pipeline`, a form with `token`, `ref` and `variables[NAME]`. The
//! target's URL is that of the API: `https://gitlab.example/api/v4`. The jobs of the pipeline have the claim's id and
//! fences as variables.

use super::{Call, FORM, Need, Outgoing, Preset, SecretUse, Unfit, VARS_MAX, form, is_path};

pub(super) static PRESET: Preset = Preset {
    name: "gitlab-trigger",
    docs: "https://docs.gitlab.com/api/pipeline_triggers/#trigger-a-pipeline-with-a-token",
    secret: SecretUse::Token,
    has_user: false,
    is_generic: false,
    needs: &[PROJECT, REF],
    reserved: &[],
    further_vars_max: VARS_MAX,
    request,
};

/// The project of both GitLab presets.
pub(super) const PROJECT: Need = Need {
    name: "project",
    allowed: "a project's number or its path, such as fpga/core",
    fits: |text| {
        is_path(text, |b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && text.len() <= 512
    },
};

const REF: Need = Need {
    name: "ref",
    allowed: "a branch or tag of 1 to 255 bytes",
    fits: |text| (1..=255).contains(&text.len()),
};

fn request(call: &Call<'_>) -> Result<Outgoing, Unfit> {
    let own = [("token".to_owned(), call.token()?), ("ref".to_owned(), call.var("ref")?)];
    let variables = call.for_the_job().map(|(name, value)| (format!("variables[{name}]"), value));
    let body = form(own.into_iter().chain(variables));
    call.post(&["projects", call.var("project")?, "trigger", "pipeline"], &[FORM], body)
}
