//! What came of a call to a CI system, in words, and what to do about it. The service calls, not this machine:
//! so it is there that names, addresses and certificates are to be looked at.

use serde::Deserialize;

/// What came of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct CallEnd {
    /// The HTTP status of the answer, if there was one.
    pub(super) status: Option<u16>,
    /// Why there was none, by its class.
    pub(super) error: Option<String>,
}

impl CallEnd {
    /// `HTTP 503`, or why there was no answer.
    pub(super) fn describe(&self) -> String {
        match (self.status, self.error.as_deref()) {
            (Some(status), _) => format!("HTTP {status}"),
            (None, Some(error)) => error.to_owned(),
            (None, None) => "no answer".to_owned(),
        }
    }

    /// What to do about a call that failed. `target` is the one that was called, if it was no URL.
    pub(super) fn advice(&self, target: Option<&str>) -> String {
        let section = match target {
            Some(name) => format!("[callbacks.targets.{name}]"),
            None => "[[callbacks.allow]]".to_owned(),
        };
        match (self.status, self.error.as_deref()) {
            (Some(status), _) => advice_on_status(status, &section),
            (None, Some(error)) => advice_on_error(error, &section),
            (None, None) => LOG.to_owned(),
        }
    }
}

/// Where there is nothing better to say.
pub(super) const LOG: &str = "the log of semaphored says more: journalctl -u semaphored";

fn advice_on_status(status: u16, section: &str) -> String {
    match status {
        300..=399 => format!(
            "it redirects, which is not followed: put the URL that it leads to into {section} of the \
             service's configuration"
        ),
        401 | 403 => format!(
            "the CI system does not accept the secret: renew it in the CI system, and put it into the \
             secret_file of {section}; it needs the right to start this job"
        ),
        404 => format!(
            "the CI system does not know what it is asked for: check the vars (project, job, branch) and \
             the url of {section}; some say 404 also where the secret lacks the right to see it"
        ),
        405 | 501 => format!("that is no place to start a job: check the url of {section}"),
        429 => "the CI system has too many calls: what else calls it?".to_owned(),
        500..=599 => {
            "the CI system, or the proxy before it, has trouble of its own: look there".to_owned()
        }
        _ => format!(
            "the CI system refuses the request: check the vars; has the job run already, or does it not \
             exist for this branch? Else check the url of {section}"
        ),
    }
}

fn advice_on_error(error: &str, section: &str) -> String {
    match error {
        "configuration" => format!(
            "the service's configuration does not say how to call: check {section}, that its secret_file \
             can be read by semaphored, and that no var is missing; {LOG}"
        ),
        "resolve" => format!(
            "the host has no address on the service's machine: look it up there (getent hosts NAME), and \
             check the url of {section}"
        ),
        "address-refused" => format!(
            "the host has a private or special address, which is called only where the configuration \
             permits it: add its network to allow_cidrs of {section}"
        ),
        "connect" => format!(
            "nobody takes the connection: is the CI system up, does a firewall let the service's machine \
             through, are host and port of the url of {section} right?"
        ),
        "tls" => "there is no trust: put the CA of the CI system into the certificate store of the \
                  service's machine, and check that the certificate is valid and made for the name in the url"
            .to_owned(),
        "timeout" => "there was no answer in time: is the CI system overloaded, or does a firewall drop the \
                      packets? It may have started the job all the same; callbacks.timeout gives it longer"
            .to_owned(),
        "protocol" => format!(
            "what answered does not speak HTTP as it should: check scheme and port of the url of {section}"
        ),
        _ => LOG.to_owned(),
    }
}

/// A length of time to the millisecond where that matters: `0.034s`, `12.5s`.
pub(super) fn short_time(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.3}s") } else { format!("{seconds:.1}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: Option<u16>, error: Option<&str>) -> CallEnd {
        CallEnd { status, error: error.map(str::to_owned) }
    }

    #[test]
    fn each_failure_has_its_own_advice() {
        for (error, word) in [
            ("configuration", "secret_file"),
            ("resolve", "getent hosts"),
            ("address-refused", "allow_cidrs of [callbacks.targets.ci]"),
            ("connect", "firewall"),
            ("tls", "certificate store"),
            ("timeout", "may have started the job all the same"),
            ("protocol", "scheme and port"),
            ("something-new", "journalctl"),
        ] {
            let end = ended(None, Some(error));
            assert_eq!(end.describe(), error);
            assert!(end.advice(Some("ci")).contains(word), "{error}");
        }
        for (status, word) in [
            (302, "redirects"),
            (400, "check the vars"),
            (401, "secret"),
            (403, "secret"),
            (404, "project, job, branch"),
            (429, "too many calls"),
            (503, "trouble of its own"),
        ] {
            let end = ended(Some(status), None);
            assert_eq!(end.describe(), format!("HTTP {status}"));
            assert!(end.advice(Some("ci")).contains(word), "{status}");
        }
        assert!(ended(Some(302), None).advice(None).contains("[[callbacks.allow]] of"));
        assert_eq!(ended(None, None).describe(), "no answer");
    }

    #[test]
    fn advice_is_good_for_a_test_too_which_nothing_repeats() {
        for status in [302, 401, 404, 410, 422, 429, 500, 503] {
            let advice = ended(Some(status), None).advice(Some("ci"));
            assert!(!advice.contains("tried again"), "{status}: {advice}");
        }
    }

    #[test]
    fn short_times_are_told_exactly() {
        assert_eq!((short_time(0.034), short_time(12.54)), ("0.034s".into(), "12.5s".into()));
    }
}
