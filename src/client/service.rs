//! Where the service is, and the token by which it knows us.

use std::{fmt, net::Ipv4Addr};

use ureq::http::Uri;

use super::token::Token;
use crate::model::Invalid;

/// Where the service is when nothing is said: on this machine.
const URL_DEFAULT: &str = "http://127.0.0.1:7420";
const HOST_DEFAULT: &str = "127.0.0.1:7420";

/// The address of the service, checked, with the token. The token does not show in its debug form.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ServiceAddress {
    base: String,
    host: String,
    token: Option<Token>,
    secure: bool,
    loopback: bool,
}

impl ServiceAddress {
    /// Checks `url`: http or https, a host, perhaps a port and a path below which the service is.
    ///
    /// # Errors
    /// Any other form; also a user name in it, which would end up in logs.
    pub(super) fn new(url: &str, token: Option<Token>) -> Result<ServiceAddress, Invalid> {
        let invalid =
            || Invalid::new("a URL such as https://semaphores.example or http://host:7420/base");
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid()),
        };
        let authority = uri.authority().ok_or_else(invalid)?;
        if uri.query().is_some() || url.contains('#') || authority.as_str().contains('@') {
            return Err(invalid());
        }
        // A port that is no number is in the text, and nowhere else.
        let port_is_wrong = authority.as_str() != authority.host() && uri.port_u16().is_none();
        if authority.host().is_empty() || port_is_wrong {
            return Err(invalid());
        }
        let scheme = if secure { "https" } else { "http" };
        let base = format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/'));
        let loopback = is_this_machine(authority.host());
        let host = authority.to_string();
        Ok(ServiceAddress { base, host, token, secure, loopback })
    }

    /// The service on this machine, at its default port.
    pub(super) fn local(token: Option<Token>) -> ServiceAddress {
        let (base, host) = (URL_DEFAULT.to_owned(), HOST_DEFAULT.to_owned());
        ServiceAddress { base, host, token, secure: false, loopback: true }
    }

    /// The URL to which paths such as `/api/v1` are appended.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Its host, with the port if there is one.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The token that goes with each request.
    pub(super) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Whether it is this machine, where no proxy is in between.
    pub(super) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether the token would cross a network where others can read it.
    pub(super) fn exposes_token(&self) -> bool {
        self.token.is_some() && !self.secure && !self.loopback
    }
}

/// Whether a host is this machine whoever looks it up. A name that only looks like such an address, as `127.example` does,
/// may be anybody's.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host == "[::1]"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAddress").field("base", &self.base).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_brought_to_one_form() {
        for (url, base) in [
            ("http://h", "http://h"),
            ("https://h:8443/", "https://h:8443"),
            ("https://h/a/b//", "https://h/a/b"),
            ("HTTP://127.0.0.1:7420", "http://127.0.0.1:7420"),
            ("http://[::1]:7420", "http://[::1]:7420"),
        ] {
            assert_eq!(ServiceAddress::new(url, None).unwrap().base(), base, "{url}");
        }
        for url in [
            "",
            "h",
            "h:7420",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h?q",
            "http://h:99999",
        ] {
            assert!(ServiceAddress::new(url, None).is_err(), "{url}");
        }
    }

    #[test]
    fn a_token_is_not_shown_and_its_exposure_is_known() {
        let token = || Some(Token::from_variable("secret").unwrap());
        let address = ServiceAddress::new("http://h", token()).unwrap();
        assert!(!format!("{address:?}").contains("secret"));
        assert!(address.exposes_token());
        assert!(!ServiceAddress::new("https://h", token()).unwrap().exposes_token());
        assert!(!ServiceAddress::new("http://127.0.0.1", token()).unwrap().exposes_token());
        assert!(!ServiceAddress::new("http://h", None).unwrap().exposes_token());
    }

    #[test]
    fn only_addresses_of_this_machine_are_this_machine() {
        for (url, expected) in [
            ("http://127.evil.invalid", false),
            ("http://127.0.0.1.evil.invalid:7420", false),
            ("http://127.0.0.1", true),
            ("http://127.1.2.3:7420/base", true),
            ("http://localhost:7420", true),
            ("http://LOCALHOST", true),
            ("http://[::1]:7420", true),
            ("http://127.", false),
            ("http://localhost.evil.invalid", false),
            ("http://128.0.0.1", false),
            ("http://[::2]", false),
        ] {
            let token = Token::from_variable("secret").unwrap();
            let address = ServiceAddress::new(url, Some(token)).unwrap();
            assert_eq!(address.is_loopback(), expected, "{url}");
            assert_eq!(address.exposes_token(), !expected, "{url}");
        }
    }
}
