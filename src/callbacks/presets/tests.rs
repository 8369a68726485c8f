//! The request of each preset, as a receiver gets it.

use serde_json::json;

use crate::{
    callbacks::{
        Registry, SecretSettings, Settings, TargetSettings,
        event::tests::sample,
        secret::{Secret, SecretSource, WebhookKey},
        signature::{self, Keys},
        testing::{NO_CONTENT, Receiving, Recorded},
    },
    model::{Callback, DeliveryResult, TargetName, Vars, WallTime},
};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: WallTime = WallTime(1_795_492_260_999);

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

fn target(preset: &str, token: &str) -> TargetSettings {
    TargetSettings {
        preset: preset.into(),
        secrets: SecretSettings {
            present: Some(SecretSource::Inline(secret(token))),
            previous: None,
        },
        allow_vars: Some(vec!["BRANCH".into(), "branch".into(), "SEED".into()]),
        allow_cidrs: vec!["127.0.0.0/8".into()],
        ..TargetSettings::default()
    }
}

/// Calls a target below `base` of a receiver, and says what came there.
fn call(base: &str, mut target: TargetSettings, vars: &[(&str, &str)]) -> Recorded {
    let receiving = Receiving::answering(NO_CONTENT);
    target.url = format!("http://{}{base}", receiving.address);
    let name = TargetName::new("farm").unwrap();
    let targets = [(name.clone(), target)].into();
    let (registry, _) = Registry::new(&Settings { targets, ..Settings::default() }).unwrap();
    let callback = Callback::Target { name, vars: Vars::new(owned(vars)).unwrap() };
    registry.check(&callback).unwrap();
    let sent = registry.deliver(&callback, &sample(), NOW, &|| true);
    assert_eq!(sent.result, DeliveryResult::Answered { status: 204 }, "{sent:?}");
    let recorded = receiving.next();
    let host = receiving.address.to_string();
    assert_eq!(recorded.header("host"), Some(host.as_str()));
    assert_eq!(recorded.header("user-agent"), Some("semaphored/0.1.0"));
    assert_eq!(recorded.header("content-length"), Some(recorded.body.len().to_string().as_str()));
    recorded
}

/// The headers that the preset sets, by their names.
fn own_headers(recorded: &Recorded) -> Vec<(&str, &str)> {
    let always = ["host", "user-agent", "content-length"];
    let headers = recorded.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut own: Vec<_> = headers.filter(|(name, _)| !always.contains(name)).collect();
    own.sort_unstable();
    own
}

fn signature_of(body: &str) -> String {
    let keys = Keys { present: WebhookKey::new(&secret(KEY)).unwrap(), previous: None };
    signature::headers(&keys, "evt_7f3c_1", NOW, body).unwrap()[2].1.clone()
}

#[test]
fn generic_sends_the_signed_event() {
    let request = call("/hook?x=1", target("generic", KEY), &[("branch", "main")]);
    assert_eq!(request.line, "POST /hook?x=1 HTTP/1.1");
    let signature = signature_of(&request.body);
    assert_eq!(
        own_headers(&request),
        [
            ("accept", "*/*"),
            ("content-type", "application/json"),
            ("webhook-id", "evt_7f3c_1"),
            ("webhook-signature", &signature),
            ("webhook-timestamp", "1795492260"),
        ]
    );
    let expected = json!({
        "type": "claim.offered",
        "timestamp": "2026-11-24T03:50:53.120Z",
        "data": { "id": "7f3c", "state": "offered", "vars": { "branch": "main" } },
    });
    assert_eq!(request.json(), expected);
}

#[test]
fn generic_takes_method_headers_and_template() {
    let template = r#"{"text": "{{vars.branch}} of {{holder}}", "fences": "{{fences}}"}"#;
    let given = TargetSettings {
        method: Some("PUT".into()),
        headers: vec![
            ("Authorization".into(), SecretSource::Inline(secret("Bearer x y"))),
            ("content-type".into(), SecretSource::Inline(secret("application/cloudevents+json"))),
        ],
        template: Some(template.into()),
        allow_vars: None,
        ..target("generic", KEY)
    };
    let request = call("/", given, &[("branch", "a\"b")]);
    assert_eq!(request.line, "PUT / HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("Bearer x y"));
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
    assert_eq!(request.header("webhook-signature"), Some(&*signature_of(&request.body)));
    let expected = json!({
        "text": "a\"b of job \"412\" \\ ü",
        "fences": "{\"FlexLM-Riviera\":8812}",
    });
    assert_eq!(request.json(), expected);
}

#[test]
fn gitlab_trigger_posts_a_form() {
    let given = TargetSettings {
        vars: owned(&[("project", "fpga/core"), ("SIM", "riviera & more")]),
        ..target("gitlab-trigger", "glptt-1")
    };
    let request = call("/api/v4", given, &[("ref", "feature/x"), ("BRANCH", "ü")]);
    assert_eq!(request.line, "POST /api/v4/projects/fpga%2Fcore/trigger/pipeline HTTP/1.1");
    assert_eq!(
        own_headers(&request),
        [("accept", "*/*"), ("content-type", "application/x-www-form-urlencoded")]
    );
    assert_eq!(
        request.body,
        "token=glptt-1&ref=feature%2Fx\
         &variables%5BSEMAPHORE_CLAIM_ID%5D=7f3c\
         &variables%5BSEMAPHORE_FENCES%5D=%7B%22FlexLM-Riviera%22%3A8812%7D\
         &variables%5BBRANCH%5D=%C3%BC\
         &variables%5BSIM%5D=riviera%20%26%20more"
    );
}

#[test]
fn gitlab_play_posts_variables_of_the_job() {
    let given = target("gitlab-play", "glpat-1");
    let vars = [("project", "17"), ("job_id", "412"), ("SEED", "a\"b")];
    let request = call("/api/v4/", given, &vars);
    assert_eq!(request.line, "POST /api/v4/projects/17/jobs/412/play HTTP/1.1");
    assert_eq!(
        own_headers(&request),
        [("accept", "*/*"), ("content-type", "application/json"), ("private-token", "glpat-1")]
    );
    let expected = json!({ "job_variables_attributes": [
        { "key": "SEMAPHORE_CLAIM_ID", "value": "7f3c" },
        { "key": "SEMAPHORE_FENCES", "value": "{\"FlexLM-Riviera\":8812}" },
        { "key": "SEED", "value": "a\"b" },
    ] });
    assert_eq!(request.json(), expected);
}

#[test]
fn jenkins_build_posts_parameters_with_basic_authentication() {
    let given = TargetSettings { user: Some("ci".into()), ..target("jenkins-build", "11ab") };
    let vars = [("job", "fpga core/sim/feature%2Fx"), ("SEED", "1 2")];
    let request = call("/jenkins", given, &vars);
    assert_eq!(
        request.line,
        "POST /jenkins/job/fpga%20core/job/sim/job/feature%252Fx/buildWithParameters HTTP/1.1"
    );
    assert_eq!(
        own_headers(&request),
        [
            ("accept", "*/*"),
            ("authorization", "Basic Y2k6MTFhYg=="),
            ("content-type", "application/x-www-form-urlencoded"),
        ]
    );
    assert_eq!(
        request.body,
        "SEMAPHORE_CLAIM_ID=7f3c&SEMAPHORE_FENCES=%7B%22FlexLM-Riviera%22%3A8812%7D&SEED=1%202"
    );
}

#[test]
fn github_dispatch_posts_an_event_with_a_payload() {
    let given = TargetSettings {
        vars: owned(&[("repository", "fpga/core.sim"), ("event_type", "permit")]),
        ..target("github-dispatch", "ghp_1")
    };
    let request = call("", given, &[("branch", "main")]);
    assert_eq!(request.line, "POST /repos/fpga/core.sim/dispatches HTTP/1.1");
    assert_eq!(
        own_headers(&request),
        [
            ("accept", "application/vnd.github+json"),
            ("authorization", "Bearer ghp_1"),
            ("content-type", "application/json"),
            ("x-github-api-version", "2022-11-28"),
        ]
    );
    let expected = json!({
        "event_type": "permit",
        "client_payload": {
            "claim_id": "7f3c",
            "fences": "{\"FlexLM-Riviera\":8812}",
            "branch": "main",
        },
    });
    assert_eq!(request.json(), expected);
}

#[test]
fn each_preset_names_its_documentation_and_itself_once() {
    let mut names: Vec<_> = super::PRESETS.iter().map(|preset| preset.name).collect();
    names.dedup();
    assert_eq!(names.len(), super::PRESETS.len());
    for preset in super::PRESETS {
        assert!(preset.docs.starts_with("https://"), "{}", preset.name);
        assert_eq!(super::preset(preset.name), Some(preset));
    }
}
