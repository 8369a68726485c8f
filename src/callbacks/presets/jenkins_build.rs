//! `jenkins-build`: starts a parameterized Jenkins job.
//!
//! `POST {url}/job/{job}/buildWithParameters`, a form of the parameters, with basic authentication by user and
//! API token, which needs no crumb. A job in a folder is `folder/job`, for which the path is
//! `/job/folder/job/job`; so a branch of a multibranch job is `project/feature%2Fx`, as Jenkins names it. Jenkins
//! passes on only parameters that the job declares: it must declare `SEMAPHORE_CLAIM_ID` and
//! `SEMAPHORE_FENCES`.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Call, FORM, Need, Outgoing, Preset, SecretUse, Unfit, VARS_MAX, form, is_path};

pub(super) static PRESET: Preset = Preset {
    name: "jenkins-build",
    docs: "https://www.jenkins.io/doc/book/using/remote-access-api/",
    secret: SecretUse::Token,
    has_user: true,
    is_generic: false,
    needs: &[JOB],
    // What Jenkins itself reads from the form.
    reserved: &["token", "delay", "cause", "json"],
    further_vars_max: VARS_MAX,
    request,
};

const JOB: Need = Need {
    name: "job",
    allowed: "a job's full name, such as folder/job, of up to 1000 bytes",
    fits: |text| is_path(text, |_| true) && text.len() <= 1_000,
};

fn request(call: &Call<'_>) -> Result<Outgoing, Unfit> {
    let job = call.var("job")?;
    let mut parts: Vec<&str> = job.split('/').flat_map(|name| ["job", name]).collect();
    parts.push("buildWithParameters");
    let body = form(call.for_the_job().map(|(name, value)| (name.to_owned(), value)));
    let user = call.target.user().ok_or(Unfit::Secret)?;
    let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{}", call.token()?)));
    call.post(&parts, &[("Authorization", &authorization), FORM], body)
}
