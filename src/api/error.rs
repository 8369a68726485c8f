//! What a call can end in. Each error has a stable code, a text that says what to do, and data.

use crate::model::{EndReason, Priority, Scope, WallTime};

/// Why a call was refused. The text says what happened, on what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An id or a name in the path breaks its grammar.
    #[error("`{member}` in the path must be {allowed}")]
    InvalidPath {
        /// `id` or `name`.
        member: &'static str,
        /// What is allowed.
        allowed: String,
    },
    /// A query parameter that this endpoint does not have, or one that it has with a wrong value, or twice.
    #[error("query parameter `{parameter}` {problem}")]
    InvalidQuery {
        /// Its name.
        parameter: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// The body is not JSON, not UTF-8, not an object, or empty where one is needed.
    #[error("the body must be a JSON object, but {problem}")]
    InvalidBody {
        /// What is wrong with it, and where.
        problem: String,
    },
    /// A member that this call does not have.
    #[error("unknown member `{member}`{}; allowed are {allowed}", did_you_mean(.suggestion.as_deref()))]
    UnknownMember {
        /// Its name.
        member: String,
        /// The members that exist.
        allowed: String,
        /// One of them that is spelt nearly the same.
        suggestion: Option<String>,
    },
    /// A member that is there twice.
    #[error("member `{member}` is there twice; leave one out")]
    DuplicateMember {
        /// Its name.
        member: String,
    },
    /// A member that is needed and not there.
    #[error("member `{member}` is missing: it must be {allowed}")]
    MissingMember {
        /// Its name.
        member: &'static str,
        /// What it must be.
        allowed: String,
    },
    /// A member with a value that it may not have.
    #[error("`{member}` must be {allowed}, not {got}")]
    InvalidMember {
        /// Its name, with the way to it: `permits.FlexLM-Riviera`.
        member: String,
        /// What it must be.
        allowed: String,
        /// What it was, shortened.
        got: String,
    },
    /// More permits than the semaphore has.
    #[error(
        "{requested} permits of `{semaphore}` can never be had: its capacity is {capacity}; ask for \
         fewer, or have an admin raise it"
    )]
    NeverSatisfiable {
        /// Of which semaphore.
        semaphore: String,
        /// How many were asked for.
        requested: u32,
        /// How many there are.
        capacity: u32,
    },
    /// There is no semaphore of this name.
    #[error(
        "there is no semaphore `{semaphore}`{}; GET /api/v1/semaphores lists them",
        did_you_mean(.suggestion.as_deref())
    )]
    UnknownSemaphore {
        /// The name.
        semaphore: String,
        /// One that is spelt nearly the same.
        suggestion: Option<String>,
    },
    /// There is no claim of this id.
    #[error("there is no claim `{id}`: it never was, or ended too long ago to be remembered")]
    UnknownClaim {
        /// The id.
        id: String,
    },
    /// The id belongs to a claim that was made with another request.
    #[error(
        "claim `{id}` exists and was made with another request; repeat that request unchanged, or \
         choose a new id"
    )]
    ClaimDiffers {
        /// The id.
        id: String,
    },
    /// Another job has the claim.
    #[error(
        "another job has taken claim `{id}` over and runs with its permits: a job that was started twice has nothing to do"
    )]
    ClaimTaken {
        /// The claim's id.
        id: String,
    },
    /// The claim of this id is over.
    #[error("claim `{id}` has ended ({}); acquire again under a new id", .reason.as_str())]
    ClaimEnded {
        /// The id.
        id: String,
        /// Why it ended.
        reason: EndReason,
        /// When it ended.
        ended_at: WallTime,
    },
    /// Permits are not free, and the request does not want to wait.
    #[error(
        "too few permits of `{semaphore}` are free, {available} at present; leave out \"queue\": false to wait \
         for them"
    )]
    NoPermit {
        /// The first semaphore that lacks some.
        semaphore: String,
        /// Permits that a new claim could have there now.
        available: u32,
    },
    /// The semaphore grants nothing at present, and the request does not want to wait.
    #[error(
        "`{semaphore}` is draining and grants nothing; leave out \"queue\": false to wait until it is \
         open again"
    )]
    Draining {
        /// Which.
        semaphore: String,
    },
    /// A lower capacity would end waiting claims.
    #[error(
        "a capacity of {capacity} for `{semaphore}` would end waiting claims that ask for more; their \
         number is {claims}; add ?force=true to end them as unsatisfiable"
    )]
    WouldEndClaims {
        /// Which.
        semaphore: String,
        /// The capacity asked for.
        capacity: u32,
        /// How many claims would end.
        claims: usize,
    },
    /// Claims would end that the token cannot see.
    #[error(
        "{claims} claims of {semaphore} ask for semaphores outside of this token's pattern too, and would end; let them end, \
         or ask an admin for all of these semaphores"
    )]
    HiddenClaims {
        /// Of which semaphore.
        semaphore: String,
        /// How many.
        claims: usize,
    },
    /// The semaphore cannot be unregistered while claims name it.
    #[error(
        "`{semaphore}` is in use by live claims; their number is {claims}; drain it and wait, or add \
         ?force=true to revoke them"
    )]
    SemaphoreInUse {
        /// Which.
        semaphore: String,
        /// How many live claims name it.
        claims: usize,
    },
    /// The semaphore cannot be unregistered while permits of it cool.
    #[error(
        "`{semaphore}` has permits that cool; their number is {permits}, the last of them until {}; drain it and wait, or add \
         ?force=true: registered again, it then has them at once",
        until.to_rfc3339()
    )]
    SemaphoreCools {
        /// Which.
        semaphore: String,
        /// How many permits.
        permits: u64,
        /// When the last of them has cooled.
        until: WallTime,
    },
    /// The queue of a semaphore has its greatest length.
    #[error("the queue of `{semaphore}` is full: {claims_max} claims wait; try again later")]
    QueueFull {
        /// Which.
        semaphore: String,
        /// The bound.
        claims_max: usize,
    },
    /// A bound of the whole service is reached.
    #[error(
        "the service has reached its bound {bound} = {limit}; try again later, or have an admin raise it"
    )]
    ServiceFull {
        /// The bound's name.
        bound: &'static str,
        /// Its value.
        limit: usize,
    },
    /// The configuration does not have the callback called.
    #[error("{problem}")]
    CallbackRefused {
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// There is no callback target of this name.
    #[error(
        "there is no callback target `{target}`{}; GET /api/v1/callbacks lists them",
        did_you_mean(.suggestion.as_deref())
    )]
    UnknownTarget {
        /// The name.
        target: String,
        /// One that is spelt nearly the same.
        suggestion: Option<String>,
    },
    /// The claim has no callback, so there are no deliveries.
    #[error("claim `{id}` has no callback: nothing is delivered for it")]
    NoCallback {
        /// The id.
        id: String,
    },
    /// No delivery of this number was tried.
    #[error("claim `{id}` has no delivery {number}: {deliveries} were tried")]
    UnknownDelivery {
        /// The claim's id.
        id: String,
        /// The number in the path.
        number: String,
        /// How many there are.
        deliveries: usize,
    },
    /// It was tried as often as can be recorded.
    #[error(
        "the callback of claim `{id}` was tried {limit} times, which is the most; revoke the claim, or start its job \
         by hand"
    )]
    TooManyDeliveries {
        /// The claim's id.
        id: String,
        /// The bound.
        limit: usize,
    },
    /// The claim is not offered, so there is nothing to deliver.
    #[error("claim `{id}` is {state}: a callback is delivered while its claim is offered")]
    NotOffered {
        /// The claim's id.
        id: String,
        /// The state in which it is.
        state: &'static str,
    },
    /// A token is needed.
    #[error(
        "this needs a token: send it as `Authorization: Bearer sem_...` (semaphorectl: SEMAPHORE_TOKEN or --token-file); \
         an admin makes one with `semaphorectl token create`"
    )]
    TokenMissing,
    /// What was sent is no token of this service.
    #[error(
        "the service does not know this token: it is mistyped, was revoked or rotated, or belongs to another service; an \
         admin makes one with `semaphorectl token create`"
    )]
    TokenInvalid,
    /// The token's time is over.
    #[error(
        "the token \"{name}\" has expired at {}; an admin makes another one with `semaphorectl token create`",
        .at.to_rfc3339()
    )]
    TokenExpired {
        /// The token's name.
        name: String,
        /// When.
        at: WallTime,
    },
    /// The token may not do this.
    #[error("this needs a token with the scope `{}`, and this one has {}; ask an admin for one that has it",
        .scope.as_str(), .scopes.join(", ")
    )]
    ScopeMissing {
        /// The one that is needed.
        scope: Scope,
        /// Those that it has.
        scopes: Vec<&'static str>,
    },
    /// The token is an admin's for some semaphores.
    #[error("this needs an admin token for all semaphores, and this one is for {}", .patterns.join(", "))]
    AllSemaphoresNeeded {
        /// For which it is.
        patterns: Vec<String>,
    },
    /// The token's claims may not be so early.
    #[error(
        "the priority {} is above the ceiling of this token, {}; leave `priority` out, or ask an admin for a token with a \
         higher ceiling", .priority.value(), .priority_max.value()
    )]
    PriorityTooHigh {
        /// What was asked for.
        priority: Priority,
        /// What may be.
        priority_max: Priority,
    },
    /// The token has as many live claims as it may.
    #[error(
        "this token may have {claims_max} claims at the same time, and has them; release some, or ask an admin for more"
    )]
    TokenClaimsFull {
        /// The bound.
        claims_max: u32,
    },
    /// The token makes too many requests.
    #[error(
        "this token may make {per_second_max} requests a second, and makes more; wait instead of asking in a loop"
    )]
    TooManyRequests {
        /// The bound.
        per_second_max: u32,
    },
    /// Too many wrong tokens came from this address.
    #[error(
        "more than {wrong_max} wrong tokens came from this address within a minute; see which machine there has an old one"
    )]
    TooManyWrongTokens {
        /// The bound.
        wrong_max: u32,
        /// When the minute is over.
        retry_after_seconds: u64,
    },
    /// Nobody needs a token, and this call came without.
    #[error(
        "this call came without a token: tokens are switched off in the service's configuration"
    )]
    NoToken,
    /// There is no such token.
    #[error("there is no token `{id}`; GET /api/v1/tokens lists them")]
    UnknownToken {
        /// The id that was asked for.
        id: String,
    },
    /// The configuration declares the token.
    #[error(
        "the token `{id}` stands in the configuration file: change it there, and reload the service (SIGHUP)"
    )]
    TokenDeclared {
        /// Its id.
        id: String,
    },
    /// A backup is being made or read.
    #[error(
        "a backup is under way already, and there is one at a time; repeat the request when it is done"
    )]
    BackupRunning,
    /// There is no room to make a backup in.
    #[error(
        "a backup needs {needed_bytes} free bytes under the data directory for a while, and {free_bytes} are free; free \
         some space there"
    )]
    BackupNoSpace {
        /// What it needs, with what has to stay free.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The disk is nearly full.
    #[error(
        "the service is low on disk space and takes no new claims; releases and renewals go on; free \
         space under its data directory"
    )]
    StorageLow,
    /// The service is about to stop.
    #[error("the service is stopping; the claim keeps its place, repeat the request in a moment")]
    Stopping,
    /// A bug or a failing disk: it is in the log.
    #[error("the service failed at this request; its log says how")]
    Internal,
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}
