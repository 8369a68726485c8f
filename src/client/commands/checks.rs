//! The checks of `doctor`, each of which ends in a finding.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, Serializer};

use crate::{
    cli::exit,
    client::{
        Failure,
        args::ServiceArgs,
        environment::Environment,
        http::{Answer, Connection, Stage, Unreachable},
        moment::Moment,
        permission,
        progress::human,
        replies::Problem,
        service::ServiceAddress,
        token::{Token, TokenSource},
        token_view::{Expiry, TokenView},
    },
};

/// A difference of the clocks up to this is none.
const SKEW_MAX: Duration = Duration::from_secs(5);
/// A wait that was answered sooner than this did not block.
const BLOCKED_MIN: Duration = Duration::from_secs(1);
/// How much sooner than asked for a wait may be answered and still count as survived.
const SLACK: Duration = Duration::from_secs(1);
/// Variables that name an HTTP proxy.
const PROXY_VARIABLES: [&str; 5] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "ALL_PROXY"];

/// What a check has found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) check: &'static str,
    /// How it is.
    #[serde(rename = "result")]
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) detail: String,
    /// What to do about it.
    pub(super) mend: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Well.
    Ok,
    /// Well enough to work.
    Warn,
    /// Broken; with the exit code that says so.
    Fail(u8),
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail(_) => "fail",
        })
    }
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
        Finding { check, verdict: Verdict::Ok, detail: detail.into(), mend: None }
    }

    fn warn(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Finding {
        let mend = Some(mend.into());
        Finding { check, verdict: Verdict::Warn, detail: detail.into(), mend }
    }

    fn fail(
        check: &'static str,
        exit: u8,
        detail: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        let mend = Some(mend.into());
        Finding { check, verdict: Verdict::Fail(exit), detail: detail.into(), mend }
    }
}

/// A configuration that is wrong.
pub(super) fn wrong_configuration(failure: Failure) -> Finding {
    let mend = "correct the variable or the file, or give --url or --token-file";
    Finding::fail("configuration", failure.exit, failure.message, mend)
}

/// Where the service is said to be, and by whom.
pub(super) fn configuration(
    args: &ServiceArgs,
    address: &ServiceAddress,
    environment: &Environment,
) -> Finding {
    let source = match (&args.url, environment.variable("SEMAPHORE_URL")) {
        (Some(_), _) => "from --url",
        (None, Some(_)) => "from SEMAPHORE_URL",
        (None, None) => "the default, for SEMAPHORE_URL is not set",
    };
    let token = match address.token().map(Token::source) {
        None => "no token",
        Some(TokenSource::File { .. }) => "a token from --token-file",
        Some(TokenSource::Variable) => "a token from SEMAPHORE_TOKEN",
    };
    let detail = format!("{} ({source}), {token}", address.base());
    if address.exposes_token() {
        let mend = "the token is sent unencrypted: use https://";
        return Finding::warn("configuration", detail, mend);
    }
    if let Some(path) = address.token().and_then(Token::open_file) {
        let mend = format!("others can read the token: chmod 600 {path}");
        return Finding::warn("configuration", detail, mend);
    }
    Finding::ok("configuration", detail)
}

/// Whether anybody answers; with what it says about the token, which is a question that takes no scope.
pub(super) fn reach(connection: &Connection) -> (Finding, Option<Answer>) {
    ask(connection, "/api/v1/token")
}

/// What the service says about itself; or why it is not told.
pub(super) fn ask_about_itself(connection: &Connection) -> Result<Answer, Finding> {
    let (finding, answer) = ask(connection, "/api/v1/service");
    answer.ok_or(finding)
}

fn ask(connection: &Connection, path: &str) -> (Finding, Option<Answer>) {
    match connection.look(path, Duration::ZERO) {
        Ok(answer) if answer.status >= 500 => {
            let detail = format!("a proxy answers, and nobody behind it (HTTP {})", answer.status);
            let mend = "look at the daemon: systemctl status semaphored; and at the proxy's log";
            (Finding::fail("reach", exit::UNREACHABLE, detail, mend), None)
        }
        Ok(answer) if answer.status == 429 => {
            let detail = Problem::read(&answer).describe(&answer);
            let mend =
                "try again in a moment; what else asks so much from here, or with a wrong token?";
            (Finding::fail("reach", exit::UNREACHABLE, detail, mend), None)
        }
        Ok(answer) => {
            let detail = format!("answered within {} ms", answer.took.as_millis().max(1));
            (Finding::ok("reach", detail), Some(answer))
        }
        Err(unreachable) => (out_of_reach(&unreachable), None),
    }
}

fn out_of_reach(unreachable: &Unreachable) -> Finding {
    let mend = match unreachable.stage {
        Stage::Name => "the host's name has no address: correct the URL, or look at DNS",
        Stage::Connect => {
            "nobody takes the connection: is semaphored (or NGINX) running there, is the port right, \
             is a firewall between?"
        }
        Stage::Tls => {
            "the connection cannot be trusted: install the certificate of the company's authority on \
             this machine, or correct the host's name, or use http:// if it is no https"
        }
        Stage::Answer => {
            "connected, and no answer: is it semaphored that listens there? Look at its log"
        }
    };
    Finding::fail("reach", exit::UNREACHABLE, &unreachable.reason, mend)
}

/// What it says about itself, as far as this needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceReply {
    name: String,
    version: String,
    state: String,
    storage: String,
}

/// Whether the token is right: the answer to the question about it. Also returns whether it is.
pub(super) fn authentication(answer: &Answer, address: &ServiceAddress) -> (Finding, bool) {
    const CHECK: &str = "authentication";
    if matches!(answer.status, 401 | 403) {
        return (refused(answer, address), false);
    }
    let finding = match (TokenView::read(answer), address.token()) {
        (Ok(token), Some(_)) if answer.status == 200 => {
            let detail = format!("token {}", token.describe());
            match token.expiry(Moment::of_answer(answer)) {
                Expiry::Soon(_) | Expiry::Over(_) => {
                    let mend = "have another one before that: an admin makes one with `semaphorectl token create`";
                    Finding::warn(CHECK, detail, mend)
                }
                Expiry::Never | Expiry::Later(_) => Finding::ok(CHECK, detail),
            }
        }
        (_, Some(_)) => Finding::ok(CHECK, "none needed; the token that is sent does nothing"),
        (_, None) => Finding::ok(CHECK, "none needed"),
    };
    (finding, true)
}

/// Who it is that answers, in which version and state. Also returns whether it is a semaphored.
pub(super) fn service(answer: &Answer, address: &ServiceAddress) -> (Vec<Finding>, bool) {
    if is_without_scope(answer) {
        let detail = "semaphored; more about it is told to tokens with the scope read";
        return (vec![Finding::ok("service", detail)], true);
    }
    if matches!(answer.status, 401 | 403) {
        return (vec![refused(answer, address)], false);
    }
    let reply: ServiceReply = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status != 200 || reply.name != "semaphored" {
        let detail = match answer.location {
            Some(_) => Problem::read(answer).describe(answer),
            None => format!("it is no semaphored that answers (HTTP {})", answer.status),
        };
        let mend = "correct the URL: it ends where /api/v1 begins";
        return (vec![Finding::fail("service", exit::CONFIGURATION, detail, mend)], false);
    }
    (vec![state(&reply), version(&reply.version)], true)
}

/// Whether the token is a good one, and only not meant for this.
fn is_without_scope(answer: &Answer) -> bool {
    answer.status == 403 && Problem::read(answer).code == "scope-missing"
}

fn refused(answer: &Answer, address: &ServiceAddress) -> Finding {
    let problem = Problem::read(answer);
    let (detail, mend) = match (permission::words(&problem), address.token()) {
        (Some((what, how)), _) => {
            (format!("{what} ({}, HTTP {})", problem.code, answer.status), how)
        }
        (None, None) => {
            (problem.describe(answer), "set SEMAPHORE_TOKEN or --token-file".to_owned())
        }
        (None, Some(_)) => {
            let mend = "the token is unknown or not good for this: ask the admin for another";
            (problem.describe(answer), mend.to_owned())
        }
    };
    Finding::fail("authentication", exit::NOT_ALLOWED, detail, mend)
}

fn state(reply: &ServiceReply) -> Finding {
    if reply.state == "stopping" {
        return Finding::warn("service", "semaphored, about to stop", "try again in a moment");
    }
    if reply.storage == "low" {
        let mend = "free space below its data_dir; until then it takes no new claims";
        return Finding::warn("service", "semaphored, low on disk space", mend);
    }
    Finding::ok("service", format!("semaphored, {}", reply.state))
}

fn version(theirs: &str) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let detail = format!("semaphored {theirs}, semaphorectl {ours}");
    let release =
        |version: &str| -> Vec<String> { version.split('.').take(2).map(str::to_owned).collect() };
    if release(theirs) == release(ours) {
        return Finding::ok("version", detail);
    }
    Finding::warn("version", detail, "they work together, but update the older one")
}

/// Whether the clocks agree.
pub(super) fn clock(answer: &Answer) -> Finding {
    let Some(theirs) = answer.date.as_deref().and_then(Moment::from_http) else {
        return Finding::ok("clock", "the answer does not tell its time");
    };
    let here = Moment::here();
    let (ahead, behind) = (theirs.since(here), here.since(theirs));
    let skew = ahead.max(behind);
    if skew <= SKEW_MAX {
        return Finding::ok("clock", format!("within {} of the service's", human(SKEW_MAX)));
    }
    let word = if ahead > behind { "behind" } else { "ahead of" };
    let detail = format!("this machine is {} {word} the service", human(skew));
    let mend = "leases do not depend on it, but times in logs do: look at NTP on both";
    Finding::warn("clock", detail, mend)
}

/// How long a blocked request survives on the way. It waits for a change after a revision that never comes.
pub(super) fn long_wait(connection: &Connection, wait: Duration) -> Finding {
    let path = format!("/api/v1/semaphores?since={}&wait={}s", u64::MAX, wait.as_secs());
    let begun = Instant::now();
    let result = connection.look(&path, wait);
    let lasted = begun.elapsed();
    read_wait(result, lasted, wait)
}

fn read_wait(result: Result<Answer, Unreachable>, lasted: Duration, wait: Duration) -> Finding {
    let cut = |how: String| {
        let detail = format!("a wait of {} was cut after {}: {how}", human(wait), human(lasted));
        let mend = "raise the proxy's read time-out above 60s (NGINX: proxy_read_timeout), or lower \
                    wait_max in semaphored.toml below it";
        Finding::fail("long wait", exit::UNREACHABLE, detail, mend)
    };
    match result {
        Err(unreachable) => cut(unreachable.reason),
        Ok(answer) if is_without_scope(&answer) => {
            let detail = "not tried, for that takes a token with the scope read";
            Finding::ok("long wait", detail)
        }
        Ok(answer) if answer.status != 200 => cut(Problem::read(&answer).describe(&answer)),
        Ok(_) if lasted + SLACK >= wait => {
            Finding::ok("long wait", format!("{} survive", human(wait)))
        }
        Ok(_) if lasted < BLOCKED_MIN => {
            let detail = "the service answers at once: it blocks no more requests";
            let mend = "jobs get their permits late; raise waiting_requests_max in semaphored.toml";
            Finding::warn("long wait", detail, mend)
        }
        Ok(_) => {
            let detail = format!("{} survive; that is the service's wait_max", human(lasted));
            Finding::ok("long wait", detail)
        }
    }
}

/// What in the environment changes how things go.
pub(super) fn environment(address: &ServiceAddress, environment: &Environment) -> Finding {
    if let Some(outer) = environment.variable("SEMAPHORE_CLAIM_ID") {
        let detail = format!("SEMAPHORE_CLAIM_ID is set: this runs inside claim {outer}");
        let mend = "a run in here holds and waits; ask for all permits in one claim: -p A=1 -p B=1";
        return Finding::warn("environment", detail, mend);
    }
    let proxies = PROXY_VARIABLES.iter().filter(|name| environment.variable(name).is_some());
    let proxies: Vec<_> = proxies.copied().collect();
    let detail = match (proxies.as_slice(), address.is_loopback()) {
        ([], _) => "nothing special".to_owned(),
        (names, true) => format!("{} set, not used for this machine", names.join(", ")),
        (names, false) => format!("{} set, and used", names.join(", ")),
    };
    Finding::ok("environment", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into(), ..Answer::default() }
    }

    fn check(found: &Finding, verdict: Verdict, detail: &str) {
        assert_eq!(found.verdict, verdict, "{found:?}");
        assert!(found.detail.contains(detail), "{found:?}");
        assert_eq!(found.mend.is_some(), verdict != Verdict::Ok, "{found:?}");
    }

    #[test]
    fn who_answers_is_told() {
        let address = ServiceAddress::local(None);
        let findings = |status, body| service(&answer(status, body), &address);
        let body = r#"{"name":"semaphored","version":"0.1.7","state":"running","storage":"ok"}"#;
        let (well, is_semaphored) = findings(200, body);
        assert!(is_semaphored && well.iter().all(|finding| finding.verdict == Verdict::Ok));
        let (other, is_semaphored) = findings(200, "<html>");
        check(&other[0], Verdict::Fail(78), "no semaphored");
        assert!(!is_semaphored);
        check(&findings(401, "").0[0], Verdict::Fail(77), "HTTP 401");
        let (unseen, is_semaphored) = findings(403, r#"{"code":"scope-missing","scope":"read"}"#);
        check(&unseen[0], Verdict::Ok, "scope read");
        assert!(is_semaphored);
        let low = body.replace("ok", "low").replace("0.1.7", "9.0.0");
        let (low, _) = findings(200, &low);
        check(&low[0], Verdict::Warn, "low on disk space");
        check(&low[1], Verdict::Warn, "semaphored 9.0.0");
    }

    #[test]
    fn a_wait_that_is_cut_is_told() {
        let wait = Duration::from_secs(50);
        let read = |status, lasted| {
            read_wait(Ok(answer(status, "")), Duration::from_secs_f64(lasted), wait)
        };
        check(&read(200, 50.0), Verdict::Ok, "50s survive");
        check(&read(200, 20.0), Verdict::Ok, "20s survive");
        check(&read(200, 0.1), Verdict::Warn, "at once");
        check(&read(504, 30.0), Verdict::Fail(69), "cut after 30s");
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let old = Answer { date: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()), ..answer(200, "") };
        check(&clock(&old), Verdict::Warn, "ahead of the service");
        check(&clock(&answer(200, "")), Verdict::Ok, "does not tell");
    }
}
