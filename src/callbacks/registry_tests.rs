//! Claims' callbacks against a configuration, and configurations that are wrong.

use super::*;
use crate::{
    callbacks::{
        SecretSettings, TargetSettings,
        event::tests::sample,
        secret::Secret,
        testing::{NO_CONTENT, Receiving},
    },
    model::{DeliveryFailure, DeliveryResult, Vars},
};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn inline(text: &str) -> SecretSettings {
    let present = Some(SecretSource::Inline(Secret::new(text).unwrap()));
    SecretSettings { present, previous: None }
}

fn target(preset: &str, url: &str, secret: &str, vars: &[(&str, &str)]) -> TargetSettings {
    TargetSettings {
        line: Some(7),
        preset: preset.into(),
        url: url.into(),
        secrets: inline(secret),
        vars: owned(vars),
        ..TargetSettings::default()
    }
}

fn entry(url: &str) -> AllowSettings {
    AllowSettings { url: Some(url.into()), secrets: inline(KEY), ..AllowSettings::default() }
}

fn settings(targets: &[(&str, TargetSettings)], allow: &[AllowSettings]) -> Settings {
    let named =
        targets.iter().map(|(name, target)| (TargetName::new(name).unwrap(), target.clone()));
    Settings { targets: named.collect(), allow: allow.to_vec(), ..Settings::default() }
}

fn allowing(vars: &[&str], target: TargetSettings) -> TargetSettings {
    let allow_vars = vars.iter().map(|&name| name.to_owned()).collect();
    TargetSettings { allow_vars: Some(allow_vars), ..target }
}

fn farm() -> Registry {
    let github = [("repository", "fpga/core"), ("event_type", "permit")];
    let api = "https://gitlab.example/api/v4";
    let targets = [
        (
            "github",
            allowing(&["v*"], target("github-dispatch", "https://api.github.com", "x", &github)),
        ),
        (
            "gitlab-fpga",
            allowing(&["SEED", "*"], target("gitlab-play", api, "x", &[("project", "fpga/core")])),
        ),
        (
            "jenkins",
            TargetSettings {
                user: Some("ci".into()),
                ..target("jenkins-build", "https://jenkins.example", "x", &[])
            },
        ),
        (
            "chat",
            TargetSettings {
                template: Some(r#"["{{vars.room}}"]"#.into()),
                ..target("generic", "https://chat.example/hook", KEY, &[])
            },
        ),
    ];
    let allow = [
        entry("https://hooks.example/ci/"),
        entry("https://hooks.example/secret-path/"),
        entry("http://8.8.8.8/x"),
    ];
    Registry::new(&settings(&targets, &allow)).unwrap().0
}

fn to(name: &str, vars: &[(&str, &str)]) -> Callback {
    Callback::Target { name: TargetName::new(name).unwrap(), vars: Vars::new(owned(vars)).unwrap() }
}

fn at(url: &str) -> Callback {
    Callback::Url(CallbackUrl::new(url).unwrap())
}

#[test]
fn callbacks_that_fit_have_a_lane() {
    let farm = farm();
    let nine: Vec<String> = (0..9).map(|n| format!("v{n}")).collect();
    let eight: Vec<(&str, &str)> = nine[..8].iter().map(|name| (name.as_str(), "")).collect();
    for (callback, lane) in [
        (to("gitlab-fpga", &[("job_id", "412"), ("SEED", "1")]), "gitlab-fpga"),
        (to("github", &eight), "github"),
        (to("jenkins", &[("job", "a/b")]), "jenkins"),
        (to("chat", &[("room", "7")]), "chat"),
        (at("https://hooks.example/ci/start?job=7"), "https://hooks.example/ci/"),
        (at("http://8.8.8.8/x"), "http://8.8.8.8/x"),
    ] {
        assert_eq!(farm.check(&callback), Ok(()), "{callback:?}");
        assert_eq!(farm.lane(&callback).unwrap().to_string(), lane);
    }
    let listed: Vec<_> = farm.targets().map(|target| (target.preset, target.origin)).collect();
    assert_eq!(listed[0], ("generic", "https://chat.example".to_owned()));
    assert_eq!(listed.len(), 4);
    assert!(!farm.is_empty());
}

#[test]
fn callbacks_that_do_not_fit_are_refused_with_what_to_change() {
    let farm = farm();
    let many: Vec<String> = (0..9).map(|n| format!("v{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    for (callback, expected) in [
        (
            to("gitlab-fgpa", &[]),
            "there is no callback target gitlab-fgpa, did you mean gitlab-fpga?",
        ),
        (to("nightly", &[]), "there is no callback target nightly: an admin declares it as"),
        (
            to("gitlab-fpga", &[]),
            "callback target gitlab-fpga needs the var `job_id`: give it in `vars`, a job's number, such \
             as 412 (`$CI_JOB_ID` of the manual job); see https://docs.gitlab.com/api/jobs/#run-a-job",
        ),
        (
            to("gitlab-fpga", &[("job_id", "x")]),
            "the var `job_id` of callback target gitlab-fpga must be a job's",
        ),
        (
            to("gitlab-fpga", &[("job_id", "1"), ("project", "a/b")]),
            "`project` of callback target gitlab-fpga is fixed",
        ),
        (
            to("gitlab-fpga", &[("job_id", "1"), ("SEMAPHORE_FENCES", "")]),
            "`SEMAPHORE_FENCES` is used by the service",
        ),
        (to("github", &[("claim_id", "1")]), "`claim_id` is used by the service itself"),
        (to("github", &many), "takes at most 8 vars besides those that it needs"),
        (
            to("jenkins", &[("job", "../x")]),
            "the var `job` of callback target jenkins must be a job's full name",
        ),
        (
            to("jenkins", &[("job", "..;x/y")]),
            "the var `job` of callback target jenkins must be a job's full name",
        ),
        (
            to("jenkins", &[("job", "a/. /b")]),
            "the var `job` of callback target jenkins must be a job's full name",
        ),
        (to("jenkins", &[("job", "a"), ("token", "x")]), "`token` is used by the service itself"),
        (
            to("jenkins", &[("job", "a"), ("BRANCH", "x")]),
            "callback target jenkins does not take the var `BRANCH`: leave it out, or an admin adds \"BRANCH\" to \
             `allow_vars` of [callbacks.targets.jenkins] in the configuration",
        ),
        (
            to("gitlab-fpga", &[("job_id", "1"), ("BASH_ENV", "x")]),
            "callback target gitlab-fpga does not take the var `BASH_ENV`",
        ),
        (to("chat", &[]), "callback target chat needs the var `room`: give it in `vars`, any text"),
        (
            to("chat", &[("room", "1"), ("floor", "2")]),
            "has a template, which does not name the var `floor`",
        ),
        (at("https://hooks.example/ci/../x"), "`.` and `..` as parts of the path are not allowed"),
        (
            at("https://hooks.example.evil/ci/"),
            "is not permitted: permitted are some at http://8.8.8.8, https://hooks.example; an admin",
        ),
        (at("http://127.0.0.1/"), "is not permitted"),
    ] {
        let error = farm.check(&callback).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let sent = farm.deliver(&callback, &sample(), WallTime(0), &|| true);
        assert_eq!(sent.result, DeliveryResult::Failed(DeliveryFailure::Configuration));
        assert_eq!(sent.detail, Some(error));
    }
    assert_eq!(farm.lane(&to("nightly", &[])), None);
    assert_eq!(farm.lane(&at("https://evil.example/")), None);
}

#[test]
fn without_configuration_nobody_is_called() {
    let (empty, warnings) = Registry::new(&Settings::default()).unwrap();
    assert!(empty.is_empty() && warnings.is_empty());
    let error = empty.check(&to("gitlab", &[])).unwrap_err().to_string();
    assert!(error.contains("gitlab: none is declared; an admin declares it as"), "{error}");
    let error = empty.check(&at("https://hooks.example/")).unwrap_err().to_string();
    assert!(error.contains("is not permitted: no URLs are; name a callback target"), "{error}");
}

#[test]
fn a_permitted_url_gets_a_signed_event() {
    let receiving = Receiving::answering(NO_CONTENT);
    let url = format!("http://{}/ci/", receiving.address);
    let permitted = AllowSettings { allow_cidrs: vec!["127.0.0.1/32".into()], ..entry(&url) };
    let (registry, _) = Registry::new(&settings(&[], &[permitted])).unwrap();
    let mut event = sample();
    event.vars = Vars::new(owned(&[("branch", "main")])).unwrap();
    let sent = registry.deliver(&at(&format!("{url}start?a=b")), &event, WallTime(1_000), &|| true);
    assert_eq!(sent.result, DeliveryResult::Answered { status: 204 });
    let request = receiving.next();
    assert_eq!(request.line, "POST /ci/start?a=b HTTP/1.1");
    assert_eq!(request.header("webhook-id"), Some("evt_7f3c_1"));
    assert_eq!(request.header("webhook-timestamp"), Some("1"));
    assert!(request.header("webhook-signature").unwrap().starts_with("v1,"));
    assert_eq!(request.json()["data"]["vars"]["branch"], "main");
}

#[test]
fn an_address_that_shows_when_the_name_is_resolved_is_refused() {
    struct Inside;
    impl crate::callbacks::lookups::Lookup for Inside {
        fn addresses(&self, _: &str, port: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
            Ok(vec![([10, 0, 0, 1], port).into()])
        }
    }
    let inside = Transport::with_lookup(std::sync::Arc::new(Inside));
    let registry = farm().with_transport(inside);
    let sent = registry.deliver(&at("https://hooks.example/ci/"), &sample(), WallTime(0), &|| true);
    assert_eq!(sent.result, DeliveryResult::Failed(DeliveryFailure::AddressRefused));
    let detail = sent.detail.unwrap();
    assert!(detail.starts_with("https://hooks.example: hooks.example is not called"), "{detail}");
}

#[test]
fn wrong_targets_say_where_and_what() {
    let api = "https://gitlab.example/api/v4";
    let play = || target("gitlab-play", api, "x", &[]);
    let generic = || target("generic", "https://hooks.example/", KEY, &[]);
    for (given, expected) in [
        (
            target("gitlab-paly", api, "x", &[]),
            "there is no preset \"gitlab-paly\", did you mean \"gitlab-play\"?; there are generic, ",
        ),
        (
            target("gitlab-play", "gitlab.example", "x", &[]),
            "`url = \"gitlab.example\"`: it must begin with https://",
        ),
        (target("gitlab-play", "https://gitlab.example/?a", "x", &[]), "must not have a query"),
        (
            target("gitlab-play", "https://10.0.0.1/", "x", &[]),
            "10.0.0.1 is a private address (10.0.0.0/8, RFC 1918)",
        ),
        (
            TargetSettings { secrets: SecretSettings::default(), ..play() },
            "a secret is missing: set one of `secret_file`",
        ),
        (TargetSettings { secrets: inline("a b"), ..play() }, "visible ASCII without blanks"),
        (
            TargetSettings { secrets: inline("x"), ..generic() },
            "`secret`: the secret of a signed webhook must be `whsec_`",
        ),
        (
            TargetSettings { method: Some("PUT".into()), ..play() },
            "gitlab-play has no use for `method`",
        ),
        (TargetSettings { user: Some("ci".into()), ..play() }, "gitlab-play has no use for `user`"),
        (
            TargetSettings { template: Some("1".into()), ..play() },
            "gitlab-play has no use for `template`",
        ),
        (
            TargetSettings {
                secrets: SecretSettings { previous: inline("y").present, ..inline("x") },
                ..play()
            },
            "no use for `previous_secret`",
        ),
        (
            target("jenkins-build", "https://jenkins.example", "x", &[]),
            "`user` is missing or wrong",
        ),
        (
            TargetSettings { method: Some("GET".into()), ..generic() },
            "`method` must be \"POST\" or \"PUT\", not \"GET\"",
        ),
        (
            TargetSettings { template: Some("{{id}}".into()), ..generic() },
            "the template is not JSON",
        ),
        (
            TargetSettings {
                headers: vec![("Host".into(), SecretSource::Inline(Secret::new("x").unwrap()))],
                ..generic()
            },
            "the header Host is set by the service itself",
        ),
        (
            TargetSettings { vars: owned(&[("project", "../x")]), ..play() },
            "`vars.project` must be a project's number or its path",
        ),
        (
            TargetSettings { vars: owned(&[("a-b", "")]), ..play() },
            "`vars` must be an object of at most 32 names",
        ),
        (
            TargetSettings { vars: owned(&[("SEMAPHORE_CLAIM_ID", "")]), ..play() },
            "`vars.SEMAPHORE_CLAIM_ID` is not for you to set",
        ),
        (allowing(&["a-b"], play()), "`allow_vars`: \"a-b\" is no name of a var"),
        (
            TargetSettings { template: Some("1".into()), ..allowing(&["a"], generic()) },
            "`allow_vars` has no use beside `template`",
        ),
        (
            TargetSettings { allow_cidrs: vec!["10.0.0.0".into()], ..play() },
            "\"10.0.0.0\" is no range of addresses",
        ),
        (
            TargetSettings { allow_cidrs: vec!["10.1.0.0/8".into()], ..play() },
            "write \"10.0.0.0/8\"",
        ),
        (
            TargetSettings { allow_cidrs: vec!["10.0.0.0/8".into(); 17], ..play() },
            "at most 16 `allow_cidrs`",
        ),
    ] {
        let error = Registry::new(&settings(&[("farm", given)], &[])).unwrap_err().to_string();
        assert!(error.starts_with("line 7: callback target farm: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn wrong_entries_and_numbers_say_where_and_what() {
    let neither = AllowSettings { url: None, ..entry("") };
    let no_secret =
        AllowSettings { secrets: SecretSettings::default(), ..entry("https://a.example/") };
    let inside =
        AllowSettings { allow_cidrs: vec!["10.0.0.0/8".into()], ..entry("https://10.0.0.1/") };
    let host = |host: &str| AllowSettings { url: None, host: Some(host.into()), ..entry("") };
    let twice =
        [entry("https://a.example/"), entry("https://b.example/"), entry("https://a.example:443")];
    let too_many = vec![entry("https://a.example/"); 65];
    let slow = Settings { timeout: Duration::from_secs(61), ..Settings::default() };
    for (given, expected) in [
        (settings(&[], &[neither]), "[[callbacks.allow]] number 1: set one of `url` and `host`"),
        (settings(&[], &[no_secret]), "[[callbacks.allow]] number 1: a secret is missing"),
        (settings(&[], &[entry("https://a.example")]), ""),
        (
            settings(&[], &[entry("ftp://a.example/")]),
            "`url = \"ftp://a.example/\"`: it must begin with https://",
        ),
        (
            settings(&[], &[entry("https://127.0.0.1/")]),
            "[[callbacks.allow]] number 1: 127.0.0.1 is this machine itself",
        ),
        (settings(&[], &[host("10.0.0.1")]), "number 1: 10.0.0.1 is a private address"),
        (settings(&[], &[inside]), ""),
        (settings(&[], &twice), "number 3: this permits what number 1 permits already"),
        (settings(&[], &[host("a.example"), host("a.example:8443")]), ""),
        (settings(&[], &too_many), "[callbacks]: there may be at most 64 entries of `allow`"),
        (slow, "[callbacks]: `timeout` must be from 1s to 60s"),
    ] {
        let error = Registry::new(&given).map_or_else(|error| error.to_string(), |_| String::new());
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.is_empty(), expected.is_empty(), "{error}");
    }
}

#[test]
fn warnings_tell_of_secrets_that_others_can_read_and_of_plain_http() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("semaphored.toml");
    std::fs::write(&path, "").unwrap();
    let warnings = |mode, url: &str| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let given = settings(&[("farm", target("gitlab-play", url, "x", &[]))], &[]);
        let given = Settings { config_file: Some(path.clone()), ..given };
        Registry::new(&given).unwrap().1
    };
    assert_eq!(warnings(0o640, "https://gitlab.example"), [""; 0]);
    let told = warnings(0o644, "http://gitlab.example");
    assert!(told[0].contains("has secrets or headers and every user can read it"), "{told:?}");
    assert!(told[1].contains("farm sends its token without encryption"), "{told:?}");

    let secret = directory.path().join("secret");
    std::fs::write(&secret, KEY).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let present = Some(SecretSource::File(secret.clone()));
    let header = |source: SecretSource, url: &str| {
        let given = TargetSettings {
            secrets: SecretSettings { present: present.clone(), previous: None },
            headers: vec![("Authorization".into(), source)],
            ..target("generic", url, KEY, &[])
        };
        let given = settings(&[("farm", given)], &[]);
        Registry::new(&Settings { config_file: Some(path.clone()), ..given }).unwrap().1
    };
    let inline = || SecretSource::Inline(Secret::new("Bearer x").unwrap());
    let told = header(inline(), "http://chat.example/");
    assert!(told[0].contains("has secrets or headers and every user can read it"), "{told:?}");
    assert!(told[1].contains("farm sends its headers without encryption"), "{told:?}");
    assert_eq!(header(SecretSource::File(secret.clone()), "https://chat.example/"), [""; 0]);
}

#[test]
fn nothing_that_is_printed_has_a_secret() {
    let header = SecretSource::Inline(Secret::new("glpat-1").unwrap());
    let headers = vec![("Authorization".into(), header)];
    let generic = target("generic", "https://hooks.example/", KEY, &[]);
    let given = settings(
        &[
            ("hooks", TargetSettings { headers, ..generic }),
            ("gitlab", target("gitlab-play", "https://gitlab.example", "glpat-1", &[])),
        ],
        &[entry("https://hooks.example/ci/")],
    );
    let (registry, _) = Registry::new(&given).unwrap();
    let shown = format!("{given:?} {registry:?}");
    assert!(!shown.contains("MfKQ9r8GKYqr") && !shown.contains("glpat"), "{shown}");
    assert!(shown.contains("Secret(…)") && shown.contains("WebhookKey(…)"), "{shown}");
}
