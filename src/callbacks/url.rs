//! The URLs that callbacks go to: a grammar of our own, narrower than RFC 3986.
//!
//! Two parsers that read one URL in two ways are how a check is passed by and another machine is called. So
//! there is one way to write a URL, everything else is refused with what to write instead, and what was
//! parsed is what is sent: [`Destination::as_str`] is the same text again. Pure.
//!
//! Invariants of a [`Destination`]: the scheme is http or https; the host is a DNS name in lower case whose
//! last label cannot be taken for a number, or an IP address in its one canonical form; the path begins with
//! `/` and has no dot segments, however written, and no empty ones inside; decoded it is UTF-8; there is no user and no
//! fragment.
//! What it does not say is whether anybody may call it: that is [`super::allowed`] and [`super::address`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Longest URL, in bytes: a claim's own has up to 2,048, a preset's path with its vars needs more.
const URL_BYTES_MAX: usize = 16_384;
/// All but the unreserved characters of RFC 3986.
pub(crate) const RESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longest DNS name, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
/// Longest label of a DNS name, in bytes (RFC 1035).
const LABEL_BYTES_MAX: usize = 63;

/// A URL of the configuration as an error shows it: user, password and query may be secrets.
pub(super) fn shown(text: &str) -> String {
    let (hidden, rest) = text.rsplit_once('@').map_or(("", text), |(_, rest)| ("…@", rest));
    match rest.split_once('?') {
        Some((rest, _)) => format!("{hidden}{rest}?…"),
        None => format!("{hidden}{rest}"),
    }
}

/// Characters that programs which normalise texts read as dots and slashes (Unicode's compatibility forms).
const LOOK_ALIKES: [char; 6] =
    ['\u{ff0e}', '\u{fe52}', '\u{2024}', '\u{2025}', '\u{ff0f}', '\u{ff3c}'];

/// Why a text is not a URL that is called. Each says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Empty, or too long to be one.
    #[error("a URL has 1 to 16384 bytes")]
    Length,
    /// A blank, a control character, or a letter beyond ASCII.
    #[error(
        "only visible ASCII characters are allowed: percent-encode others in the path, and write a \
         host's name in its xn-- form"
    )]
    NotVisibleAscii,
    /// `\`, which some programs read as `/`.
    #[error("a backslash is not allowed: write `/`")]
    Backslash,
    /// Not `http://` or `https://`, in lower case.
    #[error("it must begin with https:// (or http://), in lower case")]
    Scheme,
    /// `user@`.
    #[error(
        "a user or password in the URL is not allowed: declare a target with `secret_file` instead"
    )]
    UserInfo,
    /// Nothing between `://` and the path.
    #[error("the host is missing after `://`")]
    HostMissing,
    /// Neither a name nor an address in its one form.
    #[error(
        "the host must be a name of a-z, 0-9 and `-` in lower case, such as hooks.example, with labels of 1 \
         to 63 characters and no dot at the end"
    )]
    HostName,
    /// A number in another spelling: decimal, octal, hexadecimal, or with parts left out.
    #[error(
        "the host looks like a number: write an IPv4 address as four numbers from 0 to 255 without leading \
         zeros, such as 192.0.2.7"
    )]
    HostNumber,
    /// An IPv6 address that is none, has a zone, or is not in its canonical form.
    #[error(
        "an IPv6 host must be in brackets and in its shortest form in lower case (RFC 5952) without a \
         zone, such as [2001:db8::7]"
    )]
    HostIpv6,
    /// Not a number from 1 to 65535.
    #[error("the port must be from 1 to 65535, without leading zeros")]
    Port,
    /// `#…`, which is never sent.
    #[error("a fragment (`#…`) is never sent: leave it out")]
    Fragment,
    /// `/../` or `/./`, in any spelling.
    #[error(
        "`.` and `..` as parts of the path are not allowed, encoded or not: write the path itself"
    )]
    DotSegment,
    /// `//`.
    #[error("an empty part of the path (`//`) is not allowed: write one `/`")]
    EmptySegment,
    /// `%` without two hexadecimal digits, or one that hides a control character, or in the path `\` or another `%`.
    #[error(
        "a `%` must stand before two hexadecimal digits, and not for a control character, nor in the path for a \
         backslash or a second encoding"
    )]
    Percent,
    /// Bytes that some programs read as others.
    #[error("what is percent-encoded in the path must be UTF-8")]
    NotUtf8,
    /// A dot or a slash in another form.
    #[error(
        "full-width dots, slashes and backslashes in the path are not allowed: write the plain ones"
    )]
    LookAlike,
    /// A character that RFC 3986 does not allow there.
    #[error(
        "the path or query has a character that must be percent-encoded, such as \" < > [ ] ^ ` {{ | }}"
    )]
    Character,
}

/// How to talk to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without encryption.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port_default(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name for the resolver.
    Name(String),
    /// An address, for which nobody is asked.
    Address(IpAddr),
}

/// A URL that can be called, in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    scheme: Scheme,
    host: Host,
    port: u16,
    path: String,
    /// With its `?`; empty without one.
    query: String,
    text: String,
}

impl Destination {
    /// Reads a URL.
    ///
    /// # Errors
    /// The text is not a URL in the one spelling of this module.
    pub fn parse(text: &str) -> Result<Destination, UrlProblem> {
        if text.is_empty() || text.len() > URL_BYTES_MAX {
            return Err(UrlProblem::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UrlProblem::NotVisibleAscii);
        }
        if text.contains('\\') {
            return Err(UrlProblem::Backslash);
        }
        let (scheme, rest) = scheme_of(text)?;
        if rest.contains('#') {
            return Err(UrlProblem::Fragment);
        }
        let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlProblem::UserInfo);
        }
        let (host, port) = host_and_port(authority)?;
        let (path, query) = tail.split_at(tail.find('?').unwrap_or(tail.len()));
        let path = if path.is_empty() { "/" } else { path };
        check_path(path)?;
        check_characters(query, b"/?:@!$&'()*+,;=-._~%")?;
        check_encoded(query, b"")?;
        let port = port.unwrap_or(scheme.port_default());
        let mut destination = Destination {
            scheme,
            host,
            port,
            path: path.to_owned(),
            query: query.to_owned(),
            text: String::new(),
        };
        destination.text = format!("{}{path}{query}", destination.origin());
        Ok(destination)
    }

    /// The URL with `parts` after its path, each percent-encoded as a whole: `a/b` becomes `a%2Fb`.
    ///
    /// # Errors
    /// A part is empty or has an empty part, a dot segment or a backslash, however written; or the result is too long.
    pub fn join(&self, parts: &[&str]) -> Result<Destination, UrlProblem> {
        let mut path = self.path.trim_end_matches('/').to_owned();
        for part in parts {
            check_part(part)?;
            path.push('/');
            path.extend(utf8_percent_encode(part, RESERVED));
        }
        let text = format!("{}{path}{}", self.origin(), self.query);
        if text.len() > URL_BYTES_MAX {
            return Err(UrlProblem::Length);
        }
        Ok(Destination { path, text, ..self.clone() })
    }

    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host, and the port where it is not the scheme's own: `https://hooks.example`.
    #[must_use]
    pub fn origin(&self) -> String {
        let (scheme, host) = (self.scheme.as_str(), self.host_text());
        if self.port == self.scheme.port_default() {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{}", self.port)
        }
    }

    /// How to talk to it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Who is called.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, given or the scheme's own.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, which begins with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether there is a query.
    #[must_use]
    pub fn has_query(&self) -> bool {
        !self.query.is_empty()
    }

    /// The host as it stands in the URL.
    #[must_use]
    pub fn host_text(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V4(address)) => address.to_string(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        }
    }
}

fn scheme_of(text: &str) -> Result<(Scheme, &str), UrlProblem> {
    for scheme in [Scheme::Https, Scheme::Http] {
        let rest = text.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_prefix("://"));
        if let Some(rest) = rest {
            return Ok((scheme, rest));
        }
    }
    Err(UrlProblem::Scheme)
}

fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), UrlProblem> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(UrlProblem::HostIpv6)?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port_of(port)?),
            None if after.is_empty() => None,
            None => return Err(UrlProblem::HostIpv6),
        };
        let parsed: Ipv6Addr = address.parse().map_err(|_| UrlProblem::HostIpv6)?;
        if parsed.to_string() != address {
            return Err(UrlProblem::HostIpv6);
        }
        return Ok((Host::Address(parsed.into()), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(UrlProblem::HostIpv6),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let host = host_of(host)?;
    Ok((host, port.map(port_of).transpose()?))
}

fn host_of(host: &str) -> Result<Host, UrlProblem> {
    if host.is_empty() {
        return Err(UrlProblem::HostMissing);
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let lower = host.to_ascii_lowercase();
    // A dot at the end does not make a number a name.
    let last = lower.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if last.starts_with("0x") || !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UrlProblem::HostNumber);
    }
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > HOST_BYTES_MAX || !host.split('.').all(is_label) {
        return Err(UrlProblem::HostName);
    }
    Ok(Host::Name(lower))
}

fn port_of(text: &str) -> Result<u16, UrlProblem> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if is_plain { text.parse().map_err(|_| UrlProblem::Port) } else { Err(UrlProblem::Port) }
}

fn check_path(path: &str) -> Result<(), UrlProblem> {
    check_characters(path, b"/:@!$&'()*+,;=-._~%")?;
    check_encoded(path, b"\\%")?;
    // An encoded slash separates too, for whoever decodes before splitting.
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| UrlProblem::NotUtf8)?;
    check_segments(&decoded)?;
    if decoded.contains("//") {
        return Err(UrlProblem::EmptySegment);
    }
    Ok(())
}

/// Whether a text can be a part of a path once it is encoded: it may have slashes inside.
///
/// # Errors
/// It is empty or has an empty part, a dot segment, a backslash, or what some programs read as one of these.
pub(super) fn check_part(part: &str) -> Result<(), UrlProblem> {
    if part.split('/').any(str::is_empty) {
        return Err(UrlProblem::EmptySegment);
    }
    if part.contains('\\') {
        return Err(UrlProblem::Backslash);
    }
    check_segments(part)
}

fn check_segments(decoded: &str) -> Result<(), UrlProblem> {
    if decoded.contains(LOOK_ALIKES) {
        return Err(UrlProblem::LookAlike);
    }
    if decoded.split('/').any(is_dot_segment) { Err(UrlProblem::DotSegment) } else { Ok(()) }
}

/// Some programs leave out what is behind `;`, `?` or `#` of a part, and blanks around it.
fn is_dot_segment(part: &str) -> bool {
    matches!(part.split([';', '?', '#']).next().map(str::trim), Some("." | ".."))
}

fn check_characters(text: &str, besides_alphanumeric: &[u8]) -> Result<(), UrlProblem> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || besides_alphanumeric.contains(&b);
    if text.bytes().all(allowed) { Ok(()) } else { Err(UrlProblem::Character) }
}

/// Looks at what is percent-encoded: none may be a control character or one of the forbidden.
fn check_encoded(text: &str, forbidden: &[u8]) -> Result<(), UrlProblem> {
    for encoded in text.split('%').skip(1) {
        let digits = encoded.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        let is_good = |byte: u8| !byte.is_ascii_control() && !forbidden.contains(&byte);
        if !byte.is_some_and(is_good) {
            return Err(UrlProblem::Percent);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
