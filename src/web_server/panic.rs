//! Panics that are no bugs of ours: those of tiny_http that concern one connection alone, and those for want
//! of a descriptor or of a thread.
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
//!
//! It starts threads with `std::thread::spawn`, which panics when the system gives none. And the standard
//! library panics in a thread that has begun and gets no mapping for its signal stack.

use std::panic::{Location, PanicHookInfo};

/// Whether a panic is one of tiny_http's while it reads from a connection: the thread may be unwound, and
/// the process go on. Every other panic is a bug whose reach nobody knows, and the panic hook should abort.
#[must_use]
pub fn is_of_a_connection(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_some_and(|location| is_where_heads_are_read(location.file()))
}

/// Whether a panic is that of tiny_http's accept thread when it gets no descriptor: nobody can connect any
/// more, so the process has to end, and to be started again with more of them or with fewer clients.
#[must_use]
pub fn is_for_want_of_a_descriptor(panic: &PanicHookInfo<'_>) -> bool {
    panic.location().is_some_and(|location| is_where_connections_are_cloned(location.file()))
}

/// Whether a panic is the standard library's when the system gives no thread, or no mapping for one that has
/// begun: again nobody can connect any more.
#[must_use]
pub fn is_for_want_of_a_thread(panic: &PanicHookInfo<'_>) -> bool {
    let file = panic.location().map(Location::file);
    file.zip(panic.payload_as_str()).is_some_and(|(file, message)| is_no_thread(file, message))
}

fn is_no_thread(file: &str, message: &str) -> bool {
    const MESSAGES: [&str; 3] = [
        "failed to spawn thread",
        "failed to allocate an alternative stack",
        "failed to set up alternative stack guard page",
    ];
    file.replace('\\', "/").contains("library/std/src/")
        && MESSAGES.iter().any(|beginning| message.starts_with(beginning))
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

    #[test]
    fn only_the_standard_library_says_that_there_is_no_thread() {
        const FUNCTIONS: &str = "/rustc/59807616e/library/std/src/thread/functions.rs";
        const STACKS: &str = "/rustc/59807616e/library/std/src/sys/pal/unix/stack_overflow.rs";
        let again = r#"failed to spawn thread: Os { code: 11, kind: WouldBlock, message: "…" }"#;
        let guard = "failed to set up alternative stack guard page: Cannot allocate memory";
        let stack = "failed to allocate an alternative stack: Cannot allocate memory";
        for (file, message, expected) in [
            (FUNCTIONS, again, true),
            (r"C:\rust\library\std\src\thread\functions.rs", again, true),
            (STACKS, guard, true),
            (STACKS, stack, true),
            (FUNCTIONS, "fatal runtime error", false),
            ("src/web_server/pool.rs", again, false),
            ("", again, false),
        ] {
            assert_eq!(is_no_thread(file, message), expected, "{file}: {message}");
        }
    }
}
