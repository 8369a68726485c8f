//! The rules of the core as scripts.
//!
//! A line is `time command | what happens`: events in their order, or `! error`. Time is in seconds of
//! service time (and wall time, unless the clocks are moved apart). After each line the invariants are
//! checked, and that replaying all events so far gives the same durable state.

mod callbacks;
mod grants;
mod leases;
mod presence;
mod queueing;
mod semaphores;
mod tokens;

use std::{sync::Arc, time::Duration};

use semaphored::{
    model::{
        Actor, AuditEntry, Base, Callback, Change, ClaimEvent, ClaimId, ClaimRequest, Delivery,
        DeliveryFailure, DeliveryResult, Event, Fence, JobId, Labels, Note, Origin, Patterns,
        Permits, Priority, Scope, Scopes, SecretHash, SemaphoreName, SemaphoreSettings,
        SemaphoreState, Sequence, ServiceTime, TargetName, Token, TokenBounds, TokenId, TokenName,
        TokenOrigin, Vars, WallTime,
    },
    semaphore::core::{Behalf, Command, Core, Limits, Now, Outcome},
};

/// Runs a script and compares what each line does with what it says.
fn check(script: &str) {
    check_with(Limits::default(), script);
}

fn check_with(limits: Limits, script: &str) {
    let mut run = Run::new(limits);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (given, expected) = line.split_once('|').unwrap_or((line, ""));
        let happened = run.line(given);
        let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(happened, expected, "in line: {line}");
        run.core.check_invariants().unwrap_or_else(|what| panic!("{what}, after line: {line}"));
        assert_eq!(run.replayed().base(), run.core.base(), "replay, after line: {line}");
    }
}

struct Run {
    limits: Limits,
    core: Core,
    now: Now,
    journal: Vec<Change>,
    sequences: Vec<ClaimId>,
    /// Claims whose blocked requests have lost their clients, as far as the present line goes.
    gone: Vec<ClaimId>,
    /// The token on whose behalf the present line's command is.
    by: Option<Arc<Token>>,
    /// Whether the audit log is to say something of it.
    is_act: bool,
}

fn at_seconds(seconds: u64) -> Now {
    let duration = Duration::from_secs(seconds);
    Now { service: ServiceTime(duration), wall: WallTime(0).after(duration) }
}

fn name(text: &str) -> SemaphoreName {
    SemaphoreName::new(text).unwrap()
}

fn id(text: &str) -> ClaimId {
    ClaimId::new(text).unwrap()
}

impl Run {
    fn new(limits: Limits) -> Run {
        let core = Core::new(limits);
        let (journal, sequences, gone) = (Vec::new(), Vec::new(), Vec::new());
        let (by, is_act) = (None, false);
        Run { limits, core, now: Now::default(), journal, sequences, gone, by, is_act }
    }

    fn replayed(&self) -> Core {
        let mut core =
            Core::recover(self.limits, Base::default(), Vec::new(), self.now).expect("empty");
        for change in &self.journal {
            core.replay(change, self.now).expect("replay");
        }
        core
    }

    fn line(&mut self, given: &str) -> String {
        let mut words: Vec<&str> = given.split_whitespace().collect();
        self.gone = words.iter().filter_map(|word| word.strip_prefix("gone=")).map(id).collect();
        let by = words.iter().find_map(|word| word.strip_prefix("by="));
        self.by = by.map(|id| Arc::clone(self.core.token(&token_id(id)).expect("a known token")));
        self.is_act = words.contains(&"audit");
        words.retain(|word| {
            !word.starts_with("gone=") && !word.starts_with("by=") && *word != "audit"
        });
        let seconds: u64 = words[0].parse().expect("a line begins with the time in seconds");
        self.now = at_seconds(seconds);
        if words[1] == "restart" {
            self.core = self.replayed();
            return self.apply(Command::Resume);
        }
        if words[1] == "show" {
            return self.show(&name(words[2]));
        }
        if words[1] == "position" {
            return format!("{:?}", self.core.claim(&id(words[2])).unwrap().positions);
        }
        let command = self.command(words[1], &words[2..]);
        self.apply(command)
    }

    fn show(&self, name: &SemaphoreName) -> String {
        let view = self.core.semaphore(name).unwrap();
        format!(
            "in_use {} offered {} cooling {} set_aside {} available {} over {} waiting {}",
            view.in_use,
            view.offered,
            view.cooling,
            view.set_aside,
            view.available,
            view.over_committed,
            view.waiting
        )
    }

    fn apply(&mut self, command: Command) -> String {
        let mut events = Vec::new();
        let Run { sequences, gone, .. } = self;
        let mut there = |sequence: Sequence| match usize::try_from(sequence.0) {
            Ok(number) => !gone.contains(&sequences[number - 1]),
            Err(_) => true,
        };
        let audit = self
            .is_act
            .then(|| Box::new(AuditEntry::done(Actor::Daemon, "act", "something".to_owned())));
        let behalf = Behalf { token: self.by.clone(), audit };
        let outcome = self.core.apply_for(behalf, self.now, command, &mut there, &mut events);
        let mut said: Vec<String> = events.iter().map(|event| self.say(event)).collect();
        if !events.is_empty() {
            let change = Change { revision: self.core.revision(), at: self.now.wall, events };
            self.journal.push(change);
        }
        match outcome {
            Err(error) => said.push(format!("! {error}")),
            Ok(Outcome::Prolonged(_)) => said.push("prolonged".into()),
            Ok(Outcome::EndedBefore) => said.push("ended before".into()),
            Ok(_) => {}
        }
        said.join(", ")
    }

    fn say(&mut self, event: &Event) -> String {
        match event {
            Event::SemaphoreSet { name, .. } => format!("set {name}"),
            Event::SemaphoreRemoved { name } => format!("removed {name}"),
            Event::ClaimQueued { id, sequence, .. } => {
                assert_eq!(sequence.0, self.sequences.len() as u64 + 1);
                self.sequences.push(id.clone());
                format!("queued {id}")
            }
            Event::CoolingEnded { semaphore, sequence, permits } => {
                format!("cooled {semaphore} {} {permits}", self.id_of(*sequence))
            }
            Event::TokenSet { token } => format!("token {}", token.id),
            Event::TokenRevoked { id } => format!("revoked {id}"),
            Event::TokensUsed { used } => {
                let used = used.iter().map(|(id, at)| format!("{id}@{}", at.0 / 1_000));
                format!("used {}", used.collect::<Vec<_>>().join("+"))
            }
            Event::Audit { entry } => format!("audit {}", entry.action),
            Event::Claim { sequence, event } => {
                let id = self.id_of(*sequence);
                let fences = |fences: &[Fence]| {
                    fences.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
                };
                match event {
                    ClaimEvent::Offered { fences: f } => format!("offered {id} #{}", fences(f)),
                    ClaimEvent::Granted { fences: f, .. } => format!("granted {id} #{}", fences(f)),
                    ClaimEvent::Confirmed { .. } => format!("confirmed {id}"),
                    ClaimEvent::Renewed { ttl } => format!("renewed {id} {}", ttl.as_secs()),
                    ClaimEvent::Ended { reason, .. } => format!("{} {id}", reason.as_str()),
                    ClaimEvent::JobSet { job } => format!("job {id} {job}"),
                    ClaimEvent::OwnerSet { token } => format!("owned {id} {token}"),
                    ClaimEvent::CallbackSet { .. } => format!("callback {id}"),
                    ClaimEvent::CallbackDue => format!("due {id}"),
                    ClaimEvent::CallbackTried { delivery } => match delivery.result {
                        DeliveryResult::Answered { status } => format!("tried {id} {status}"),
                        DeliveryResult::Unfinished => format!("began {id}"),
                        DeliveryResult::Failed(failure) => {
                            format!("tried {id} {}", failure.as_str())
                        }
                    },
                }
            }
        }
    }

    fn id_of(&self, sequence: Sequence) -> &ClaimId {
        &self.sequences[usize::try_from(sequence.0).unwrap() - 1]
    }

    fn sequence(&self, id: &str) -> Sequence {
        let at = self.sequences.iter().rposition(|known| known.as_str() == id);
        Sequence(at.expect("known claim") as u64 + 1)
    }

    fn command(&self, verb: &str, words: &[&str]) -> Command {
        let option =
            |name: &str| words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
        let seconds = |name: &str| option(name).map(|v| Duration::from_secs(v.parse().unwrap()));
        let has = |flag: &str| words.contains(&flag);
        match verb {
            "acquire" | "block" => {
                let request = request(words, &seconds, &has);
                Command::Acquire { id: id(words[0]), request, blocks: verb == "block" }
            }
            "renew" => Command::Renew {
                id: id(words[0]),
                ttl: seconds("ttl"),
                job: option("job").map(|job| JobId::new(job).unwrap()),
                blocks: has("block"),
            },
            "release" => Command::Release {
                id: id(words[0]),
                job: option("job").map(|job| JobId::new(job).unwrap()),
            },
            "revoke" => Command::Revoke { id: id(words[0]), note: Note::new("stuck").ok() },
            "answered" | "closed" => {
                Command::Unblock { sequence: self.sequence(words[0]), closed: verb == "closed" }
            }
            "tried" => {
                let result = match words[1].parse() {
                    _ if words[1] == "began" => DeliveryResult::Unfinished,
                    Ok(status) => DeliveryResult::Answered { status },
                    Err(_) => DeliveryResult::Failed(DeliveryFailure::from_text(words[1]).unwrap()),
                };
                let duration = Duration::from_millis(5);
                let began = seconds("at").map_or(self.now.wall, |at| WallTime(0).after(at));
                let delivery = Delivery { started_at: began, duration, result };
                Command::NoteDelivery { sequence: self.sequence(words[0]), delivery }
            }
            "set" => {
                let settings = SemaphoreSettings {
                    default_ttl: seconds("ttl").unwrap_or(Duration::from_secs(300)),
                    max_hold: seconds("max_hold"),
                    queue_ttl: seconds("queue_ttl").unwrap_or(Duration::from_secs(120)),
                    wait_timeout: seconds("wait_timeout"),
                    cooldown: seconds("cooldown").unwrap_or_default(),
                    state: if has("draining") {
                        SemaphoreState::Draining
                    } else {
                        SemaphoreState::Open
                    },
                    max_ttl: seconds("max_ttl").unwrap_or(Duration::from_secs(3_600)),
                    ..SemaphoreSettings::with_capacity(words[1].parse().unwrap())
                };
                let origin = Origin::Api;
                Command::SetSemaphore {
                    name: name(words[0]),
                    settings,
                    origin,
                    force: has("force"),
                }
            }
            "remove" => {
                Command::RemoveSemaphore { name: name(words[0]), force: has("force"), note: None }
            }
            "token" => {
                let number = |name: &str| option(name).map(|v| v.parse().unwrap());
                let patterns = option("for").unwrap_or("*").split('+').map(str::to_owned);
                let scopes = option("scopes").unwrap_or("claim").split('+').map(Scope::parse);
                let token = Token {
                    id: token_id(words[0]),
                    hash: SecretHash([0; 32]),
                    name: TokenName::new(words[0]).unwrap(),
                    scopes: Scopes::new(scopes.map(Result::unwrap)).unwrap(),
                    patterns: Patterns::new(patterns.collect()).unwrap(),
                    bounds: TokenBounds {
                        claims_max: number("claims_max"),
                        ..TokenBounds::default()
                    },
                    expires_at: number("expires").map(|at| WallTime(i64::from(at) * 1_000)),
                    origin: TokenOrigin::Api,
                    created_at: WallTime(0),
                    last_used_at: None,
                };
                Command::SetToken { token: Arc::new(token) }
            }
            "untoken" => Command::RevokeToken { id: token_id(words[0]) },
            "used" => {
                let used = words.iter().map(|id| (token_id(id), self.now.wall));
                Command::NoteTokensUsed { used: used.collect() }
            }
            "timeout" => Command::Timeout,
            other => panic!("unknown command {other}"),
        }
    }
}

fn token_id(text: &str) -> TokenId {
    TokenId::new(text).unwrap()
}

fn callback() -> Callback {
    Callback::Target { name: TargetName::new("ci").unwrap(), vars: Vars::default() }
}

/// `ID A=2 B=1 priority=5 …`: words with a capital letter are semaphores with a weight.
fn request(
    words: &[&str],
    seconds: &dyn Fn(&str) -> Option<Duration>,
    has: &dyn Fn(&str) -> bool,
) -> ClaimRequest {
    let mut permits = Vec::new();
    let mut priority = Priority::default();
    for word in &words[1..] {
        let (key, value) = word.split_once('=').unwrap_or((word, "1"));
        if key.starts_with(|c: char| c.is_ascii_uppercase()) {
            permits.push((name(key), value.parse().unwrap()));
        }
        if key == "priority" {
            priority = Priority::new(value.parse().unwrap()).unwrap();
        }
    }
    let mut fingerprint = [0; 32];
    for (at, byte) in words.join(" ").bytes().enumerate() {
        fingerprint[at % 32] ^= byte;
    }
    ClaimRequest {
        permits: Permits::new(permits).unwrap(),
        holder: None,
        labels: Labels::default(),
        priority,
        ttl: seconds("ttl"),
        queue_ttl: seconds("queue_ttl"),
        offer_ttl: seconds("offer_ttl"),
        wait_timeout: seconds("wait_timeout"),
        queue: !has("noqueue"),
        callback: has("callback").then(|| callback().into()),
        fingerprint,
    }
}
