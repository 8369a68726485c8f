//! What the configuration permits of the URLs that clients bring: below a URL, or on a host.
//!
//! Pure. Compared are parsed URLs, never texts: `https://hooks.example/ci/` does not permit
//! `https://hooks.example.evil/ci/`, and a path has no dot segments by the time it is compared.

use std::fmt;

use super::url::{Destination, Scheme, UrlProblem, shown};

/// An entry of `[[callbacks.allow]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// This URL; where its path ends with `/`, all below it too.
    Url(Destination),
    /// Everything on this host and port, with https.
    Host(Destination),
}

/// Why an entry permits nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowedProblem {
    /// The URL is none.
    #[error("`url = {text:?}`: {problem}")]
    Url {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// The URL has a query, which is not compared.
    #[error("`url = {0:?}`: leave out the query (`?…`); an entry permits whatever query a URL has")]
    Query(String),
    /// The host is none.
    #[error("`host = {text:?}`: write a host or host:port, such as hooks.example:8443; {problem}")]
    Host {
        /// What stands there.
        text: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
}

impl Allowed {
    /// An entry `url = "…"`.
    ///
    /// # Errors
    /// It is no URL, or has a query.
    pub fn url(text: &str) -> Result<Allowed, AllowedProblem> {
        let parsed = Destination::parse(text);
        let url = parsed.map_err(|problem| AllowedProblem::Url { text: shown(text), problem })?;
        if url.has_query() {
            return Err(AllowedProblem::Query(shown(text)));
        }
        Ok(Allowed::Url(url))
    }

    /// An entry `host = "…"`: a host, or host and port.
    ///
    /// # Errors
    /// It is neither.
    pub fn host(text: &str) -> Result<Allowed, AllowedProblem> {
        let wrong = |problem| AllowedProblem::Host { text: shown(text), problem };
        if text.contains(['/', '?', '#']) {
            return Err(wrong(UrlProblem::HostName));
        }
        Destination::parse(&format!("https://{text}/")).map(Allowed::Host).map_err(wrong)
    }

    /// The URL, or that of the host.
    pub(super) fn destination(&self) -> &Destination {
        match self {
            Allowed::Url(entry) | Allowed::Host(entry) => entry,
        }
    }

    /// Whether a URL may be called.
    #[must_use]
    pub fn permits(&self, url: &Destination) -> bool {
        let same_place = |entry: &Destination| {
            entry.scheme() == url.scheme()
                && entry.host() == url.host()
                && entry.port() == url.port()
        };
        match self {
            Allowed::Host(entry) => url.scheme() == Scheme::Https && same_place(entry),
            Allowed::Url(entry) => {
                let below = entry.path().ends_with('/') && url.path().starts_with(entry.path());
                same_place(entry) && (below || url.path() == entry.path())
            }
        }
    }
}

/// The entry as a URL, which names it.
impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Url(entry) => f.write_str(entry.as_str()),
            Allowed::Host(entry) => f.write_str(&entry.origin()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(entry: &Allowed, url: &str) -> bool {
        entry.permits(&Destination::parse(url).unwrap())
    }

    #[test]
    fn a_url_permits_what_is_below_it() {
        let entry = Allowed::url("https://hooks.example/ci/").unwrap();
        for good in [
            "https://hooks.example/ci/",
            "https://hooks.example/ci/start?job=7",
            "https://hooks.example:443/ci/a/b",
        ] {
            assert!(permits(&entry, good), "{good}");
        }
        for bad in [
            "http://hooks.example/ci/",
            "https://hooks.example/ci",
            "https://hooks.example/cia",
            "https://hooks.example/c%69/",
            "https://hooks.example/",
            "https://hooks.example:8443/ci/",
            "https://hooks.example.evil/ci/",
            "https://hooks.examplex/ci/",
            "https://evil.example/ci/",
            "https://evil.example/?https://hooks.example/ci/",
        ] {
            assert!(!permits(&entry, bad), "{bad}");
        }
    }

    #[test]
    fn a_url_without_a_slash_at_its_end_permits_itself() {
        let entry = Allowed::url("http://hooks.example:8080/start").unwrap();
        assert!(permits(&entry, "http://hooks.example:8080/start"));
        assert!(permits(&entry, "http://hooks.example:8080/start?job=7"));
        assert!(!permits(&entry, "http://hooks.example:8080/start/now"));
        assert!(!permits(&entry, "http://hooks.example:8080/start2"));
        assert!(!permits(&entry, "https://hooks.example:8080/start"));
    }

    #[test]
    fn a_host_permits_https_on_its_port() {
        let entry = Allowed::host("hooks.example").unwrap();
        assert!(permits(&entry, "https://hooks.example/any/thing"));
        assert!(!permits(&entry, "http://hooks.example/"));
        assert!(!permits(&entry, "https://hooks.example:8443/"));
        assert!(!permits(&entry, "https://a.hooks.example/"));
        let entry = Allowed::host("hooks.example:8443").unwrap();
        assert!(permits(&entry, "https://hooks.example:8443/"));
        assert!(!permits(&entry, "https://hooks.example/"));
    }

    #[test]
    fn entries_that_are_none_say_why() {
        for (entry, expected) in [
            (Allowed::url("hooks.example/ci/"), "must begin with https://"),
            (Allowed::url("https://hooks.example/ci/?a=b"), "leave out the query"),
            (Allowed::host("https://hooks.example"), "write a host or host:port"),
            (Allowed::host("a@hooks.example"), "a user or password"),
            (Allowed::host("Hooks.example"), "in lower case"),
            (Allowed::host(""), "the host is missing"),
        ] {
            let error = entry.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
