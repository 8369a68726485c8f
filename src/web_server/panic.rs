//! Panics of tiny_http that concern one connection alone.
//!
//! tiny_http 0.12 asks for a peer's address when it accepts, keeps the error if there is one, and unwraps
//! it when it has read the connection's first head. A client that sends a request and resets the connection
//! before it was accepted has no address any more, while what it sent can still be read: any local user
//! could end the process that way if every panic did.
//!
//! The thread that panics owns nothing but the connection, and unwinding closes it.

use std::panic::PanicHookInfo;

/// Whether a panic is one of tiny_http's while it reads from a connection: the thread may be unwound, and
/// the process go on. Every other panic is a bug whose reach nobody knows, and the panic hook should abort.
#[must_use]
pub fn is_of_a_connection(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_some_and(|location| is_where_heads_are_read(location.file()))
}

fn is_where_heads_are_read(file: &str) -> bool {
    let mut parts = file.rsplit(['/', '\\']);
    parts.next() == Some("client.rs")
        && parts.next() == Some("src")
        && parts.next().is_some_and(|package| package.starts_with("tiny_http-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reader_of_heads_counts() {
        for (file, counts) in [
            ("/home/ci/.cargo/registry/src/index/tiny_http-0.12.0/src/client.rs", true),
            ("tiny_http-0.12.0/src/client.rs", true),
            ("/x/tiny_http-0.12.0/src/lib.rs", false),
            ("/x/tiny_http-0.12.0/src/util/refined_tcp_stream.rs", false),
            ("src/client.rs", false),
            ("", false),
        ] {
            assert_eq!(is_where_heads_are_read(file), counts, "{file}");
        }
    }
}
