//! Hostile URLs, each with the reason for which it is refused.

use proptest::prelude::*;
use ureq::http::Uri;

use super::{UrlProblem::*, *};
use crate::callbacks::address::{self, Reason};

/// Pieces that hostile URLs are made of.
const PIECES: &str = "(https?://)?(a|b-c|\\.|127|0x7f|1|:|@|\\[|\\]|::1|ffff|/|\\\\|\\?|#|%2e|%2F|%5c|%25|;|,|~|=|&|80|443| ){0,12}";

proptest! {
    /// Whatever passes is read by the HTTP client as it is read here, and is the same when it is read again.
    #[test]
    fn nobody_reads_an_accepted_url_in_another_way(text in PIECES) {
        if let Ok(url) = Destination::parse(&text) {
            prop_assert_eq!(Destination::parse(url.as_str()), Ok(url.clone()));
            let uri: Uri = url.as_str().parse().unwrap();
            let host = url.host_text();
            prop_assert_eq!(uri.host(), Some(host.as_str()));
            prop_assert_eq!(uri.port_u16().unwrap_or(url.scheme().port_default()), url.port());
            prop_assert_eq!(uri.scheme_str(), Some(url.scheme().as_str()));
            prop_assert_eq!(uri.path(), url.path());
            prop_assert_eq!(uri.to_string(), url.as_str());
        }
    }
}

#[test]
fn what_is_parsed_is_what_is_sent() {
    for (text, origin, path, port) in [
        ("https://hooks.example/ci/start", "https://hooks.example", "/ci/start", 443),
        ("http://gitlab/", "http://gitlab", "/", 80),
        ("https://hooks.example:8443/a?b=c/../d", "https://hooks.example:8443", "/a", 8443),
        ("https://a.example/?to=%252Fx%25%5C..%ff", "https://a.example", "/", 443),
        ("https://1password.example/", "https://1password.example", "/", 443),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example", "/", 443),
        ("http://8.8.8.8:1/x", "http://8.8.8.8:1", "/x", 1),
        ("https://[2606:4700::1111]:65535/", "https://[2606:4700::1111]:65535", "/", 65535),
        (
            "https://a.example/p/g%2Fproject/...;x/..a/.b",
            "https://a.example",
            "/p/g%2Fproject/...;x/..a/.b",
            443,
        ),
    ] {
        let url = Destination::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        assert_eq!(url.as_str(), text);
        assert_eq!((url.origin().as_str(), url.path(), url.port()), (origin, path, port));
    }
    let bare = Destination::parse("https://hooks.example:443").unwrap();
    assert_eq!(bare.as_str(), "https://hooks.example/");
    let asked = Destination::parse("https://hooks.example?job=7").unwrap();
    assert_eq!(asked.as_str(), "https://hooks.example/?job=7");
}

#[test]
fn hostile_urls_are_refused_with_their_reason() {
    let long = format!("https://{}.example/", "a".repeat(64));
    let longer = format!("https://{}example/", "abcdefg.".repeat(31));
    for (text, expected) in [
        ("", Length),
        // Schemes.
        ("file:///etc/passwd", Scheme),
        ("gopher://hooks.example/_x", Scheme),
        ("ftp://hooks.example/", Scheme),
        ("javascript:alert(1)", Scheme),
        ("data:text/plain,x", Scheme),
        ("unix:/run/docker.sock", Scheme),
        ("http+unix://%2Frun%2Fdocker.sock/", Scheme),
        ("HTTPS://hooks.example/", Scheme),
        ("Http://hooks.example/", Scheme),
        ("https:hooks.example", Scheme),
        ("https:/hooks.example", Scheme),
        ("//hooks.example/", Scheme),
        ("hooks.example/ci/", Scheme),
        ("url:https://hooks.example/", Scheme),
        // Blanks, control characters, letters beyond ASCII.
        (" https://hooks.example/", NotVisibleAscii),
        ("https://hooks.example/\r\nHost: evil", NotVisibleAscii),
        ("https://hooks.example\t/", NotVisibleAscii),
        ("https://hooks.example/\0", NotVisibleAscii),
        ("ht\ntps://hooks.example/", NotVisibleAscii),
        ("https://b\u{fc}cher.example/", NotVisibleAscii),
        ("https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", NotVisibleAscii),
        ("https://127\u{3002}0\u{3002}0\u{3002}1/", NotVisibleAscii),
        ("https://hooks.example/\u{202e}", NotVisibleAscii),
        // Backslashes, users, fragments.
        ("https:\\\\hooks.example\\", Backslash),
        ("https://evil.example\\@hooks.example/", Backslash),
        ("https://hooks.example\\.evil.example/", Backslash),
        ("https://hooks.example@evil.example/", UserInfo),
        ("https://a:b@hooks.example/", UserInfo),
        ("https://@hooks.example/", UserInfo),
        ("https://hooks.example:443@127.0.0.1/", UserInfo),
        ("https://evil.example#@hooks.example/", Fragment),
        ("https://hooks.example/#x", Fragment),
        // Hosts.
        ("https://", HostMissing),
        ("https:///ci/", HostMissing),
        ("https://:443/", HostMissing),
        ("https://?x", HostMissing),
        ("https://hooks.example./", HostName),
        ("https://hooks..example/", HostName),
        ("https://.example/", HostName),
        ("https://Hooks.Example/", HostName),
        ("https://hooks_example/", HostName),
        ("https://-hooks.example/", HostName),
        ("https://hooks-.example/", HostName),
        ("https://hooks.example%2eevil.example/", HostName),
        ("https://%31%32%37.0.0.1/", HostNumber),
        ("https://hooks%00.example/", HostName),
        ("https://hooks.example,evil.example/", HostName),
        ("https://*/", HostName),
        (&long, HostName),
        (&longer, HostName),
        // Numbers in other spellings.
        ("http://2130706433/", HostNumber),
        ("http://0177.0.0.1/", HostNumber),
        ("http://0x7f.1/", HostNumber),
        ("http://0x7f000001/", HostNumber),
        ("http://0X7F.0.0.0x1/", HostNumber),
        ("http://127.1/", HostNumber),
        ("http://127.0.0.1./", HostNumber),
        ("http://127.0.0.01/", HostNumber),
        ("http://256.0.0.1/", HostNumber),
        ("http://1.2.3.4.5/", HostNumber),
        ("http://0/", HostNumber),
        ("http://a.1/", HostNumber),
        // IPv6.
        ("http://[::1", HostIpv6),
        ("http://::1/", HostIpv6),
        ("http://[::1%25eth0]/", HostIpv6),
        ("http://[fe80::1%eth0]/", HostIpv6),
        ("http://[0:0:0:0:0:0:0:1]/", HostIpv6),
        ("http://[2606:4700:0::1111]/", HostIpv6),
        ("http://[2606:4700::ABCD]/", HostIpv6),
        ("http://[::ffff:7f00:1]/", HostIpv6),
        ("http://[127.0.0.1]/", HostIpv6),
        ("http://[]/", HostIpv6),
        ("http://[::1]x/", HostIpv6),
        // Ports.
        ("https://hooks.example:0/", Port),
        ("https://hooks.example:65536/", Port),
        ("https://hooks.example:/", Port),
        ("https://hooks.example:0443/", Port),
        ("https://hooks.example:+443/", Port),
        ("https://hooks.example:443a/", Port),
        ("https://[2606:4700::1111]:/", Port),
        // Paths.
        ("https://hooks.example/ci/../admin", DotSegment),
        ("https://hooks.example/ci/./x", DotSegment),
        ("https://hooks.example/ci/..", DotSegment),
        ("https://hooks.example/ci/%2e%2e/admin", DotSegment),
        ("https://hooks.example/ci/.%2E/admin", DotSegment),
        ("https://hooks.example/ci/..%2fadmin", DotSegment),
        ("https://hooks.example/ci/x%2F..%2Fadmin", DotSegment),
        ("https://hooks.example/ci/..;/admin", DotSegment),
        ("https://hooks.example/ci/..%3Bx/admin", DotSegment),
        ("https://hooks.example/ci/..%20/x", DotSegment),
        ("https://hooks.example/ci/%20../x", DotSegment),
        ("https://hooks.example/ci/..%C2%A0/x", DotSegment),
        ("https://hooks.example/ci/..%3fa", DotSegment),
        ("https://hooks.example/ci/..%23a/x", DotSegment),
        ("https://hooks.example/ci/%c0%ae%c0%ae/x", NotUtf8),
        ("https://hooks.example/ci/%ff", NotUtf8),
        ("https://hooks.example/ci/%ef%bc%8e%ef%bc%8e/x", LookAlike),
        ("https://hooks.example/ci/%e2%80%a5/x", LookAlike),
        ("https://hooks.example/ci/..%ef%bc%8fx", LookAlike),
        ("https://hooks.example/ci/%252e%252e/admin", Percent),
        ("https://hooks.example/ci/..%5cadmin", Percent),
        ("https://hooks.example/ci/%00", Percent),
        ("https://hooks.example/ci/%0d%0aHost:x", Percent),
        ("https://hooks.example/ci/%zz", Percent),
        ("https://hooks.example/ci/%2", Percent),
        ("https://hooks.example/ci?a=%0a", Percent),
        ("https://hooks.example//evil.example/", EmptySegment),
        ("https://hooks.example/ci//x", EmptySegment),
        ("https://hooks.example/ci/%2F%2Fevil/x", EmptySegment),
        ("https://hooks.example/ci%2F/x", EmptySegment),
        ("https://hooks.example/%2Fevil", EmptySegment),
        ("https://hooks.example/ci/<x>", Character),
        ("https://hooks.example/ci/{x}", Character),
        ("https://hooks.example/ci?a[b]=c", Character),
        ("https://hooks.example/ci?a=\"", Character),
    ] {
        assert_eq!(Destination::parse(text), Err(expected), "{text:?}");
    }
}

#[test]
fn urls_of_well_formed_addresses_are_refused_by_their_range() {
    for (text, expected) in [
        ("http://127.0.0.1/", Reason::Loopback),
        ("http://0.0.0.0/", Reason::Unspecified),
        ("http://10.0.0.1/", Reason::Private),
        ("http://172.16.3.4/", Reason::Private),
        ("http://192.168.1.1/", Reason::Private),
        ("http://100.64.0.1/", Reason::Private),
        ("http://169.254.169.254/latest/meta-data/", Reason::Metadata),
        ("http://224.0.0.1/", Reason::Multicast),
        ("http://255.255.255.255/", Reason::Broadcast),
        ("http://[::1]/", Reason::Loopback),
        ("http://[::]/", Reason::Unspecified),
        ("http://[::ffff:127.0.0.1]/", Reason::EmbeddedIpv4),
        ("http://[::ffff:8.8.8.8]/", Reason::EmbeddedIpv4),
        ("http://[64:ff9b::7f00:1]/", Reason::EmbeddedIpv4),
        ("http://[2002:7f00:1::]/", Reason::EmbeddedIpv4),
        ("http://[2001:0:7f00:1::]/", Reason::EmbeddedIpv4),
        ("http://[fe80::1]/", Reason::LinkLocal),
        ("http://[fd00:ec2::254]/", Reason::Metadata),
        ("http://[fc00::1]/", Reason::Private),
        ("http://[ff02::1]/", Reason::Multicast),
    ] {
        let url = Destination::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        let Host::Address(address) = url.host() else { panic!("{text} has a name") };
        let refused = address::check(*address, &[]).expect_err(text);
        assert_eq!(refused.reason, expected, "{text}");
    }
}

#[test]
fn a_path_is_added_after_the_base() {
    let base = Destination::parse("https://gitlab.example/api/v4").unwrap();
    let url = base.join(&["projects", "a/b", "jobs", "7", "play"]).unwrap();
    assert_eq!(url.as_str(), "https://gitlab.example/api/v4/projects/a%2Fb/jobs/7/play");
    assert_eq!(url.path(), "/api/v4/projects/a%2Fb/jobs/7/play");
    let root = Destination::parse("https://gitlab.example").unwrap();
    let url = root.join(&["a b?c#d%2Fe", "\u{fc}"]).unwrap();
    assert_eq!(url.as_str(), "https://gitlab.example/a%20b%3Fc%23d%252Fe/%C3%BC");
    for (part, expected) in [
        ("..", DotSegment),
        ("a/../b", DotSegment),
        ("..;x", DotSegment),
        (".. ", DotSegment),
        ("a/", EmptySegment),
        ("/a", EmptySegment),
        ("\u{ff0e}\u{ff0e}", LookAlike),
        ("", EmptySegment),
        ("a\\b", Backslash),
    ] {
        assert_eq!(base.join(&[part]), Err(expected), "{part}");
    }
    assert_eq!(base.join(&["x".repeat(URL_BYTES_MAX).as_str()]), Err(Length));
}

#[test]
fn an_error_shows_no_password_and_no_query() {
    for (text, expected) in [
        ("https://hooks.example/ci", "https://hooks.example/ci"),
        ("https://hooks.example/ci?key=1", "https://hooks.example/ci?…"),
        ("https://bot:glpat-1@hooks.example/ci?key=1", "…@hooks.example/ci?…"),
        ("https://bot:a?b@c@hooks.example/", "…@hooks.example/"),
    ] {
        assert_eq!(shown(text), expected);
    }
}
