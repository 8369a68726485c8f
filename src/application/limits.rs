//! What the process may use of the machine, and what follows from that.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most requests that block at the same time, whatever the machine carries.
const WAITING_REQUESTS_DEFAULT_MAX: usize = 10_000;
/// Descriptors for everything that is not a blocked request.
const DESCRIPTORS_KEPT: usize = 256;
/// tiny_http keeps two descriptors a connection.
const DESCRIPTORS_PER_REQUEST: usize = 2;

/// Raises the limit of open descriptors as far as the system allows; returns it.
pub(crate) fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            log::warn!("the limit of open files stays as it is: {error}");
            limit.current
        }
    };
    current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many requests may block at the same time with so many descriptors.
pub(crate) fn waiting_requests(descriptors: usize) -> usize {
    let carried = descriptors.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_PER_REQUEST;
    carried.min(WAITING_REQUESTS_DEFAULT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_descriptors_a_blocked_request() {
        assert_eq!(waiting_requests(1_024), 384);
        assert_eq!(waiting_requests(1_000_000), 10_000);
        assert_eq!(waiting_requests(100), 0);
    }
}
