//! Claims that wait without a connection: how fast they are made, what they cost, and how fast they are
//! drained. Only with this service.
//!
//! The queue is drained as its holders would: as many permits as connections; each connection takes the
//! next claim in queue order, confirms its offer, releases it. The order is that of the revisions in the
//! answers, so a claim is looked at when its offer is there or about to be.

use std::time::Instant;

use super::{
    dialect::unexpected,
    engine::{Clients, Failure, Next},
    histogram::Histogram,
    http::{Answer, write_request},
};

/// Name of the semaphore that they wait for.
pub(crate) const SEMAPHORE: &str = "bench-queue";

/// The claims, and the connections that are busy with them.
#[derive(Debug)]
pub(crate) struct Queue {
    run: String,
    claims: usize,
    /// The next claim to make, or to drain as a place in `order`.
    next: usize,
    /// Of each waiting claim that was made: its revision, which is its place in the queue, and its number.
    order: Vec<(u64, usize)>,
    drains: bool,
    /// Only so many places of `order` are drained.
    pause_at: usize,
    connections: Vec<Step>,
    pub(crate) made: Histogram,
    pub(crate) confirmed: Histogram,
    pub(crate) released: Histogram,
    /// Claims that were drained.
    pub(crate) drained: usize,
    /// Answers that the offer is not there yet.
    pub(crate) too_early: usize,
}

/// What a connection does, with which claim, since when.
#[derive(Clone, Copy, Debug)]
enum Step {
    Rests,
    Makes(usize, Instant),
    Confirms(usize, Instant),
    Releases(Instant),
}

impl Queue {
    /// Will make so many claims.
    pub(crate) fn new(run: &str, claims: usize, connections: usize) -> Queue {
        Queue {
            run: run.to_owned(),
            claims,
            next: 0,
            order: Vec::with_capacity(claims),
            drains: false,
            pause_at: 0,
            connections: vec![Step::Rests; connections],
            made: Histogram::default(),
            confirmed: Histogram::default(),
            released: Histogram::default(),
            drained: 0,
            too_early: 0,
        }
    }

    /// From now on drains what was made, up to this place in the queue.
    pub(crate) fn drain_up_to(&mut self, place: usize) {
        if !self.drains {
            self.order.sort_unstable();
            self.next = 0;
            self.drains = true;
        }
        self.pause_at = place.min(self.order.len());
    }

    fn read(&mut self, connection: usize, answer: &Answer, now: Instant) -> Result<Step, Failure> {
        match self.connections[connection] {
            Step::Rests => Err("an answer without a question".into()),
            Step::Makes(claim, sent_at) => {
                if !matches!(answer.status, 201 | 202) {
                    return Err(unexpected("acquire", answer));
                }
                let revision = answer.member("revision").and_then(|text| text.parse().ok());
                self.order.push((revision.ok_or_else(|| unexpected("acquire", answer))?, claim));
                self.made.record(now.duration_since(sent_at));
                Ok(Step::Rests)
            }
            Step::Confirms(claim, sent_at) => match answer.status {
                200 => {
                    self.confirmed.record(now.duration_since(sent_at));
                    Ok(Step::Releases(now))
                }
                202 => {
                    self.too_early += 1;
                    Ok(Step::Confirms(claim, now))
                }
                _ => Err(unexpected("renew", answer)),
            },
            Step::Releases(sent_at) => {
                if answer.status != 204 {
                    return Err(unexpected("release", answer));
                }
                self.released.record(now.duration_since(sent_at));
                self.drained += 1;
                Ok(Step::Rests)
            }
        }
    }

    fn begin(&mut self, now: Instant) -> Step {
        let at = self.next;
        if at >= if self.drains { self.pause_at } else { self.claims } {
            return Step::Rests;
        }
        self.next += 1;
        if self.drains { Step::Confirms(self.order[at].1, now) } else { Step::Makes(at, now) }
    }
}

impl Clients for Queue {
    fn next(
        &mut self,
        connection: usize,
        answer: Option<&Answer>,
        out: &mut Vec<u8>,
    ) -> Result<Next, Failure> {
        let now = Instant::now();
        let step = match answer {
            Some(answer) => self.read(connection, answer, now)?,
            None => Step::Rests,
        };
        let step = if matches!(step, Step::Rests) { self.begin(now) } else { step };
        let last = std::mem::replace(&mut self.connections[connection], step);
        let path = |claim: usize| format!("/api/v1/claims/{}-{claim}", self.run);
        match step {
            Step::Rests => return Ok(Next::Rest),
            Step::Makes(claim, _) => {
                let body = format!(
                    r#"{{"permits": {{"{SEMAPHORE}": 1}}, "ttl": "1h", "queue_ttl": "24h", "offer_ttl": "1h"}}"#
                );
                write_request(out, "PUT", &path(claim), &body);
            }
            Step::Confirms(claim, _) => {
                write_request(out, "POST", &format!("{}/renew", path(claim)), "");
            }
            Step::Releases(_) => {
                let Step::Confirms(claim, _) = last else { return Err("not confirmed".into()) };
                write_request(out, "DELETE", &path(claim), "");
            }
        }
        Ok(Next::Send)
    }
}
