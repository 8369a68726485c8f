//! A claim's request with nothing in it but what it asks for.

use semaphored::model::{ClaimRequest, Labels, Permits, Priority, SemaphoreName};

/// Asks for so many permits of these semaphores, and queues for them.
pub(crate) fn plain_request(weights: Vec<(SemaphoreName, u32)>) -> ClaimRequest {
    ClaimRequest {
        permits: Permits::new(weights).unwrap(),
        holder: None,
        labels: Labels::default(),
        priority: Priority::default(),
        ttl: None,
        queue_ttl: None,
        offer_ttl: None,
        wait_timeout: None,
        queue: true,
        callback: None,
        fingerprint: [0; 32],
    }
}
