//! What a session shall get: a claim that it makes and waits for, one that it leaves with a callback, or one
//! that somebody else made.

use std::time::Duration;

use super::{
    Failure,
    options::{AdoptOptions, ClaimOptions, ServiceOptions},
    request,
};
use crate::{
    cli::exit,
    model::{Callback, ClaimId, Permits},
};

/// What a session shall get, and from where.
#[derive(Debug)]
pub(super) struct Order {
    /// The claim.
    pub(super) id: ClaimId,
    /// Whether a person chose the id for a new claim, who may have used it before.
    pub(super) id_chosen: bool,
    /// What to ask of the service.
    pub(super) demand: Demand,
    /// What is waited for, in words: `1 permit of a and 2 of b`.
    pub(super) what: String,
    /// Longest wait; kept by the service, and by the client while the service does not take the claim in.
    pub(super) wait_timeout: Option<Duration>,
    /// Where the service is.
    pub(super) service: ServiceOptions,
    /// Whether to write warnings and errors only.
    pub(super) quiet: bool,
    /// The claim that is held around this process, where waiting for another one is a danger.
    pub(super) outer_claim: Option<String>,
}

/// What to ask of the service.
#[derive(Debug)]
pub(super) enum Demand {
    /// Make the claim, and wait until it is held.
    Make {
        /// What is asked for: [`request::body`].
        body: String,
        /// Whether the claim may wait.
        queue: bool,
    },
    /// Make the claim, and leave it there: its callback is called when its turn comes.
    Register {
        /// What is asked for: [`request::body`].
        body: String,
        /// Whom the service calls, in words.
        callee: String,
    },
    /// Take over a claim that is there: confirm its offer, or wait for it.
    Adopt {
        /// What this process calls itself, so that no second one takes the claim over.
        job: String,
    },
}

impl Order {
    /// A claim to be made; with a callback it is left to the service.
    ///
    /// # Errors
    /// None that is known of: the request can be written, and a new id is one.
    pub(super) fn make(claim: &ClaimOptions) -> Result<Order, Failure> {
        let body = request::body(claim)?;
        let demand = match &claim.callback {
            Some(callback) => Demand::Register { body, callee: callee(callback) },
            None => Demand::Make { body, queue: claim.queue },
        };
        // What does not wait here cannot wait for what waits for it.
        let waits = claim.callback.is_none();
        Ok(Order {
            id: claim.id.clone().map_or_else(new_id, Ok)?,
            id_chosen: claim.id.is_some(),
            demand,
            what: describe(&claim.permits),
            wait_timeout: claim.wait_timeout,
            service: claim.service.clone(),
            quiet: claim.quiet,
            outer_claim: claim.outer_claim.clone().filter(|_| waits),
        })
    }

    /// A claim to be taken over. Where it is the one that is named around this process, that is how the id
    /// came here, and nothing is held yet.
    pub(super) fn adopt(claim: AdoptOptions) -> Order {
        let outer_claim = claim.outer_claim.filter(|outer| outer != claim.id.as_str());
        Order {
            what: format!("the permits of claim {}", claim.id),
            id: claim.id,
            id_chosen: false,
            demand: Demand::Adopt { job: uuid::Uuid::now_v7().to_string() },
            wait_timeout: None,
            service: claim.service,
            quiet: claim.quiet,
            outer_claim,
        }
    }

    /// Whether this process only makes the claim, and waits for nothing.
    pub(super) fn is_left_with_a_callback(&self) -> bool {
        matches!(self.demand, Demand::Register { .. })
    }

    /// What this process calls itself where it takes a claim over.
    pub(super) fn job(&self) -> Option<&str> {
        match &self.demand {
            Demand::Adopt { job } => Some(job),
            Demand::Make { .. } | Demand::Register { .. } => None,
        }
    }

    /// Whether the claim is there before this process asks for it.
    pub(super) fn is_adopted(&self) -> bool {
        matches!(self.demand, Demand::Adopt { .. })
    }
}

fn new_id() -> Result<ClaimId, Failure> {
    ClaimId::new(&uuid::Uuid::now_v7().to_string())
        .map_err(|error| Failure::new(exit::INTERNAL, format!("the claim id must be {error}")))
}

fn callee(callback: &Callback) -> String {
    match callback {
        Callback::Target { name, .. } => name.to_string(),
        Callback::Url(url) => url.to_string(),
    }
}

/// The permits in words: `1 permit of a and 2 of b`.
fn describe(permits: &Permits) -> String {
    let parts = permits.iter().enumerate().map(|(at, (name, weight))| match (at, weight) {
        (0, 1) => format!("1 permit of {name}"),
        (0, _) => format!("{weight} permits of {name}"),
        _ => format!("{weight} of {name}"),
    });
    parts.collect::<Vec<_>>().join(" and ")
}
