//! Where a client is, when it comes through a proxy.
//!
//! Anybody may send `X-Forwarded-For` or `Forwarded` (RFC 7239). They are believed only when the other end of the
//! connection is a proxy that the configuration trusts, and then read from the right: each proxy adds the address that it
//! saw at the end, so the first from there that is no trusted proxy is the client, and whatever stands left of it is only
//! what the client said. The address is for the audit log and for bounds, never for permission.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Head;

/// Longest chain of proxies that is followed.
const HOPS_MAX: usize = 16;

/// The proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Proxies at these addresses.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Proxies {
        Proxies(networks)
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where the client is whose request came over a connection from `peer`.
    pub(super) fn client(&self, head: &Head, peer: IpAddr) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trust(peer) {
            return peer;
        }
        // NGINX overwrites the first; the second is looked at where a proxy sends that one alone.
        let has_list = head.values("x-forwarded-for").next().is_some();
        let hops: Vec<Option<IpAddr>> = if has_list {
            values(head, "x-forwarded-for").map(address).collect()
        } else {
            values(head, "forwarded").map(forwarded_for).collect()
        };
        let mut client = peer;
        for hop in hops.into_iter().rev().take(HOPS_MAX) {
            // What cannot be read was not written by a proxy that is trusted.
            let Some(hop) = hop else { return client };
            client = hop;
            if !self.trust(hop) {
                return client;
            }
        }
        client
    }
}

/// The elements of a list that may be spread over several headers (RFC 9110, section 5.3).
fn values<'h>(head: &'h Head, name: &'static str) -> impl Iterator<Item = &'h str> {
    head.values(name).flat_map(|value| value.split(',')).map(str::trim)
}

/// An address as `X-Forwarded-For` has it: bare, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|at: SocketAddr| at.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// The `for` of one element of `Forwarded` (RFC 7239, section 4). A hidden or unknown one is none.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)]) -> String {
        let networks = ["127.0.0.0/8", "10.0.0.0/8", "::1/128"];
        let proxies = Proxies::new(networks.map(|network| network.parse().unwrap()).into());
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let head = Head { method: "GET".into(), target: "/".into(), headers };
        proxies.client(&head, peer.parse().unwrap()).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let said = [("X-Forwarded-For", "203.0.113.9")];
        assert_eq!(client("127.0.0.1", &said), "203.0.113.9");
        assert_eq!(client("::ffff:127.0.0.1", &said), "203.0.113.9");
        assert_eq!(client("192.0.2.1", &said), "192.0.2.1");
        assert_eq!(client("::1", &[]), "::1");
    }

    #[test]
    fn the_list_is_read_from_the_right() {
        let cases = [
            ("203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("1.2.3.4, 203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("1.2.3.4, rubbish, 10.1.1.1", "10.1.1.1"),
            ("10.1.1.1", "10.1.1.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("203.0.113.9:80", "203.0.113.9"),
            ("", "127.0.0.1"),
        ];
        for (list, expected) in cases {
            assert_eq!(client("127.0.0.1", &[("x-forwarded-for", list)]), expected, "{list}");
        }
        let twice = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-For", "203.0.113.9")];
        assert_eq!(client("127.0.0.1", &twice), "203.0.113.9");
        let long = vec!["10.0.0.1"; 1_000].join(",");
        assert_eq!(client("127.0.0.1", &[("x-forwarded-for", &long)]), "10.0.0.1");
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_alone() {
        let cases = [
            ("for=203.0.113.9;proto=https", "203.0.113.9"),
            ("For=\"[2001:db8::1]:47\", for=10.0.0.1", "2001:db8::1"),
            ("for=_hidden", "127.0.0.1"),
            ("for=unknown, for=10.0.0.1", "10.0.0.1"),
        ];
        for (value, expected) in cases {
            assert_eq!(client("127.0.0.1", &[("Forwarded", value)]), expected, "{value}");
        }
        let both = [("Forwarded", "for=1.2.3.4"), ("X-Forwarded-For", "203.0.113.9")];
        assert_eq!(client("127.0.0.1", &both), "203.0.113.9");
    }
}
