//! Requests and responses as plain data: what remains of HTTP when the sockets are taken away.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use super::query::{Target, split_target};
use crate::api::{Download, Peer};

/// A request without its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The method as it came; methods are case-sensitive.
    pub method: String,
    /// The request target as it came: path and query, or a whole URL (RFC 9112, section 3.2).
    pub target: String,
    /// The headers in their order, names as they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The values of a header in their order; `name` in any case.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn target(&self) -> Target<'_> {
        split_target(&self.target)
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// A whole request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// All but the body.
    pub head: Head,
    /// The body as it came; empty where there was none.
    pub body: Vec<u8>,
}

/// The client at the other end of a request's connection.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Where it can be known whether it is still there.
    pub peer: Option<Arc<Peer>>,
    /// Its address, or that of the proxy in front of it.
    pub address: Option<IpAddr>,
}

/// A response. No header holds a word of the client's: what a client says can hide a line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status, 200 to 599.
    pub status: u16,
    /// The headers, without those that say how the body is framed.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body; empty on HEAD.
    pub body: Vec<u8>,
    /// The body where it is too long for memory: then `body` is empty.
    pub download: Option<Download>,
    /// The body's length in bytes; on HEAD that of the body which GET would give (RFC 9110, section 9.3.2).
    pub content_bytes: u64,
}

impl Response {
    pub(super) fn new(status: u16, body: Vec<u8>) -> Response {
        let content_bytes = body.len() as u64;
        // No answer may be cached: every one shows a state that changes (RFC 9111, section 5.2.2.5).
        let headers = vec![("Cache-Control", Cow::Borrowed("no-store"))];
        Response { status, headers, body, download: None, content_bytes }
    }

    /// A response whose body is read while it is sent.
    pub(super) fn download(status: u16, download: Download) -> Response {
        let disposition = format!("attachment; filename=\"{}\"", download.file_name);
        let media_type = download.media_type;
        let content_bytes = download.bytes;
        let response = Response::new(status, Vec::new())
            .with("Content-Type", media_type)
            .with("Content-Disposition", disposition);
        Response { download: Some(download), content_bytes, ..response }
    }

    pub(super) fn with(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// The same response as HEAD has it: without the body, with its length.
    pub(super) fn for_method(mut self, head: bool) -> Response {
        if head {
            self.body.clear();
            self.download = None;
        }
        self
    }

    /// The first value of a header; `name` in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }
}
