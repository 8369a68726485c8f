//! Clients that each repeat the same few calls, the next one as soon as the last was answered.

use std::time::Instant;

use super::{
    dialect::{Call, Dialect, Pool, Reply, Session},
    engine::{Clients, Failure, Next},
    histogram::Histogram,
    http::Answer,
};

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Once.
    pub(crate) first: &'static [Call],
    /// Then this, after what the server needs once.
    pub(crate) again: &'static [Call],
    /// Whether the second part is repeated; if not, the client rests and keeps what it has.
    pub(crate) repeats: bool,
    /// On which semaphore.
    pub(crate) pool: Pool,
    /// Whether each repetition is on a new connection.
    pub(crate) connects: bool,
    /// Whether it counts in the [`Tally`].
    pub(crate) counts: bool,
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Whole repetitions.
    pub(crate) units: u64,
    /// How long one took.
    pub(crate) unit: Histogram,
    pub(crate) acquire: Histogram,
    pub(crate) release: Histogram,
    pub(crate) renew: Histogram,
    /// From sending a release to the next grant, where there is one permit.
    pub(crate) hand_off: Histogram,
}

impl Tally {
    /// Adds another one.
    pub(crate) fn add(&mut self, other: &Tally) {
        self.units += other.units;
        self.unit.add(&other.unit);
        self.acquire.add(&other.acquire);
        self.release.add(&other.release);
        self.renew.add(&other.renew);
        self.hand_off.add(&other.hand_off);
    }
}

/// All clients.
#[derive(Debug)]
pub(crate) struct Loops {
    dialect: Dialect,
    members: Vec<Member>,
    tally: Tally,
    /// No client begins another repetition.
    finishing: bool,
    released_at: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    session: Session,
    plan: Plan,
    /// The calls that are left of this part.
    calls: &'static [Call],
    parts_done: usize,
    sent_at: Instant,
    began_at: Instant,
}

impl Loops {
    /// Nobody yet.
    pub(crate) fn new(dialect: Dialect) -> Loops {
        Loops {
            dialect,
            members: Vec::new(),
            tally: Tally::default(),
            finishing: false,
            released_at: None,
        }
    }

    /// More clients with this plan.
    pub(crate) fn add(&mut self, clients: usize, plan: Plan) {
        for _ in 0..clients {
            let now = Instant::now();
            self.members.push(Member {
                session: Session::new(self.dialect, plan.pool, self.members.len()),
                plan,
                calls: &[],
                parts_done: 0,
                sent_at: now,
                began_at: now,
            });
        }
    }

    /// What was counted since this was asked last.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// From now on everybody stops at the end of a repetition.
    pub(crate) fn finish(&mut self) {
        self.finishing = true;
    }

    fn count(&mut self, connection: usize, call: Call, now: Instant) {
        let member = &self.members[connection];
        if !member.plan.counts {
            return;
        }
        let took = now.duration_since(member.sent_at);
        match call {
            Call::Acquire => self.tally.acquire.record(took),
            Call::Release => self.tally.release.record(took),
            Call::Renew => self.tally.renew.record(took),
            Call::Open | Call::Close => {}
        }
        if call == Call::Acquire
            && member.plan.pool == Pool::One
            && let Some(released_at) = self.released_at.take()
        {
            self.tally.hand_off.record(now.duration_since(released_at));
        }
        if member.calls.is_empty() && member.parts_done > 1 {
            self.tally.units += 1;
            self.tally.unit.record(now.duration_since(member.began_at));
        }
    }
}

impl Clients for Loops {
    fn next(
        &mut self,
        connection: usize,
        answer: Option<&Answer>,
        out: &mut Vec<u8>,
    ) -> Result<Next, Failure> {
        let now = Instant::now();
        let member = &mut self.members[connection];
        let mut next = Next::Send;
        if let Some(answer) = answer {
            let call = member.calls[0];
            if member.session.read(call, answer)? == Reply::Waiting {
                member.session.write(call, out);
                return Ok(Next::Send);
            }
            member.calls = &member.calls[1..];
            self.count(connection, call, now);
        }
        let member = &mut self.members[connection];
        if member.calls.is_empty() {
            let is_over = member.parts_done > 1 && !member.plan.repeats;
            if is_over || self.finishing {
                return Ok(Next::Rest);
            }
            let is_first = member.parts_done == 0 && !member.plan.first.is_empty();
            member.parts_done = if is_first { 1 } else { 2 };
            member.calls = if is_first { member.plan.first } else { member.plan.again };
            member.began_at = now;
            if member.plan.connects && !is_first {
                next = Next::SendAnew;
            }
        }
        let call = member.calls[0];
        member.sent_at = now;
        member.session.write(call, out);
        if matches!(call, Call::Release | Call::Close) && member.plan.pool == Pool::One {
            self.released_at = Some(now);
        }
        Ok(next)
    }
}
