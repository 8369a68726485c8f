//! Panics of tiny_http that are no bugs of ours: those that concern one connection alone, and those for want of a
//! descriptor.
//!
//! tiny_http 0.12 asks for a peer's address when it accepts, keeps the error if there is one, and unwraps
//! it when it has read the connection's first head. A client that sends a request and resets the connection
//! before it was accepted has no address any more, while what it sent can still be read: any local user
//! could end the process that way if every panic did.
//!
//! The thread that panics owns nothing but the connection, and unwinding closes it.
//!
//! tiny_http takes a second descriptor for each connection that it accepts, and unwraps it. Its accept thread
//! ends there, as it does with an error when there is not even a first one.

use std::panic::PanicHookInfo;

/// Whether a panic is one of tiny_http's while it reads from a connection: the thread may be unwound, and
/// the process go on. Every other panic is a bug whose reach nobody knows, and the panic hook should abort.
#[must_use]
pub fn is_of_a_connection(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_some_and(|location| is_where_heads_are_read(location.file()))
}

/// Whether a panic is that of tiny_http's accept thread when it gets no descriptor: nobody can connect any more,
/// so the process has to end, and to be started again with more of them or with fewer clients.
#[must_use]
pub fn is_for_want_of_a_descriptor(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_some_and(|location| is_where_connections_are_cloned(location.file()))
}

fn is_where_heads_are_read(file: &str) -> bool {
    is_of_tiny_http(file, &["client.rs", "src"])
}

fn is_where_connections_are_cloned(file: &str) -> bool {
    is_of_tiny_http(file, &["refined_tcp_stream.rs", "util", "src"])
}

/// Whether a path ends in these parts, the last one first, below tiny_http's directory.
fn is_of_tiny_http(file: &str, parts_from_the_end: &[&str]) -> bool {
    let mut parts = file.rsplit(['/', '\\']);
    parts_from_the_end.iter().all(|part| parts.next() == Some(part))
        && parts.next().is_some_and(|package| package.starts_with("tiny_http-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_these_two_files_count() {
        for (file, reads_heads, clones) in [
            ("/home/ci/.cargo/registry/src/index/tiny_http-0.12.0/src/client.rs", true, false),
            ("tiny_http-0.12.0/src/client.rs", true, false),
            ("/x/tiny_http-0.12.0/src/lib.rs", false, false),
            ("/x/tiny_http-0.12.0/src/util/refined_tcp_stream.rs", false, true),
            ("/x/tiny_http-0.12.0/src/util/client.rs", false, false),
            ("src/client.rs", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_where_heads_are_read(file), reads_heads, "{file}");
            assert_eq!(is_where_connections_are_cloned(file), clones, "{file}");
        }
    }
}
