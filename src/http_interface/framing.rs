//! Where a request's body ends (RFC 9112, section 6): the question on which request smuggling lives.
//!
//! NGINX answers it before us. This is for whoever reaches the socket past it: tiny_http takes any
//! `Transfer-Encoding` for chunked, the first of two lengths, and `+5` for a length.

use super::{Error, Head};

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// This many bytes, at least 1.
    Length(u64),
    /// In chunks of which the last says so.
    Chunked,
}

/// Reads the framing.
///
/// # Errors
/// When the headers contradict each other or themselves, or name a coding that is not known. Nothing after
/// the head of such a request may be read as a request.
pub(super) fn framing_of(head: &Head) -> Result<Framing, Error> {
    let mut lengths = head.values("content-length");
    let mut codings = head.values("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Empty),
        (Some(length), None) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            match length.parse() {
                Ok(bytes) if digits && lengths.next().is_none() => Ok(match bytes {
                    0 => Framing::Empty,
                    bytes => Framing::Length(bytes),
                }),
                _ => Err(Error::AmbiguousFraming),
            }
        }
        (None, Some(coding)) if codings.next().is_none() => {
            if coding.trim().eq_ignore_ascii_case("chunked") {
                Ok(Framing::Chunked)
            } else {
                Err(Error::UnknownTransferCoding)
            }
        }
        _ => Err(Error::AmbiguousFraming),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        let length = |value| ("Content-Length", value);
        let coding = |value| ("transfer-ENCODING", value);
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Headers, Result<Framing, Error>); 14] = [
            (&[], Ok(Framing::Empty)),
            (&[length("0")], Ok(Framing::Empty)),
            (&[length("12")], Ok(Framing::Length(12))),
            (&[coding("chunked")], Ok(Framing::Chunked)),
            (&[coding("Chunked ")], Ok(Framing::Chunked)),
            (&[length("+5")], Err(Error::AmbiguousFraming)),
            (&[length("5x")], Err(Error::AmbiguousFraming)),
            (&[length("")], Err(Error::AmbiguousFraming)),
            (&[length("99999999999999999999999")], Err(Error::AmbiguousFraming)),
            (&[length("5"), length("5")], Err(Error::AmbiguousFraming)),
            (&[length("5"), coding("chunked")], Err(Error::AmbiguousFraming)),
            (&[coding("chunked"), coding("chunked")], Err(Error::AmbiguousFraming)),
            (&[coding("identity")], Err(Error::UnknownTransferCoding)),
            (&[coding("gzip, chunked")], Err(Error::UnknownTransferCoding)),
        ];
        for (headers, expected) in cases {
            let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let head = Head { headers, ..Head::default() };
            assert_eq!(framing_of(&head), expected, "{:?}", head.headers);
        }
    }
}
