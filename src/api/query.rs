//! Query parameters: all known, each at most once.

use std::time::Duration;

use super::{Call, Error, audit::read_page, body::shorten};
use crate::model::{
    Actor, Holder, Invalid, JobId, Note, Priority, Revision, SemaphoreName, Sequence, TokenId,
    WallTime, nearest, parse_duration,
};
use crate::semaphore::core::{Cursor, ListedState, Place};

/// Claims of a page where nothing is said.
const LIMIT_DEFAULT: usize = 100;
/// Most claims of a page.
const LIMIT_MAX: usize = 1_000;
/// Longest word that is looked for in the audit log.
const WORD_BYTES_MAX: usize = 256;

/// The parameters of a call.
pub(super) struct Query<'c> {
    call: &'c Call,
}

impl<'c> Query<'c> {
    /// Checks that every parameter is one of `known` and there at most once.
    pub(super) fn of(call: &'c Call, known: &[&str]) -> Result<Query<'c>, Error> {
        for (index, (name, _)) in call.query.iter().enumerate() {
            let problem = if !known.contains(&name.as_str()) {
                unknown(name, known)
            } else if call.query[..index].iter().any(|(other, _)| other == name) {
                "is there twice; leave one out".to_owned()
            } else {
                continue;
            };
            return Err(Error::InvalidQuery { parameter: shorten(name), problem });
        }
        Ok(Query { call })
    }

    fn take<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Result<Option<T>, Error> {
        let Some((_, text)) = self.call.query.iter().find(|(other, _)| other == name) else {
            return Ok(None);
        };
        parse(text).map(Some).map_err(|invalid| Error::InvalidQuery {
            parameter: name.into(),
            problem: format!("must be {}, not \"{}\"", invalid.allowed, shorten(text)),
        })
    }

    /// How long the call may block, capped; `None` when it may not.
    pub(super) fn wait(&self, wait_max: Duration) -> Result<Wait, Error> {
        let asked = self.take("wait", |text| {
            let seconds = text.parse().map(Duration::from_secs);
            seconds.or_else(|_| parse_duration(text)).map_err(|_| Invalid {
                allowed: "a number of seconds or a text such as \"30s\"".into(),
            })
        })?;
        let preferred = asked.is_none().then_some(self.call.prefer_wait).flatten();
        let applied = preferred.map(|wait| wait.min(wait_max));
        let wait = asked.or(preferred).map(|wait| wait.min(wait_max)).filter(|w| !w.is_zero());
        Ok(Wait { wait, applied })
    }

    pub(super) fn since(&self) -> Result<Option<Revision>, Error> {
        self.take("since", |text| {
            text.parse().map(Revision).map_err(|_| Invalid { allowed: "a revision number".into() })
        })
    }

    pub(super) fn force(&self) -> Result<bool, Error> {
        let force = self.take("force", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Invalid { allowed: "true or false".into() }),
        })?;
        Ok(force.unwrap_or(false))
    }

    /// `after` of the audit log: the page goes on below this change.
    pub(super) fn page(&self) -> Result<Option<Revision>, Error> {
        self.take("after", |text| {
            read_page(text)
                .ok_or_else(|| Invalid { allowed: "the `next` of the page before".into() })
        })
    }

    /// A point in time.
    pub(super) fn time(&self, name: &str) -> Result<Option<WallTime>, Error> {
        self.take(name, WallTime::from_rfc3339)
    }

    /// `token`: the id of one.
    pub(super) fn token(&self) -> Result<Option<TokenId>, Error> {
        self.take("token", TokenId::new)
    }

    /// `actor`: a kind of actor.
    pub(super) fn actor(&self) -> Result<Option<String>, Error> {
        self.take("actor", |text| {
            let is_kind = Actor::KINDS.contains(&text);
            let invalid = || Invalid { allowed: Actor::KINDS.join(", ") };
            is_kind.then(|| text.to_owned()).ok_or_else(invalid)
        })
    }

    /// `job`: the job that gives a claim back.
    pub(super) fn job(&self) -> Result<Option<JobId>, Error> {
        self.take("job", JobId::new)
    }

    /// A word that is compared with one in the audit log.
    pub(super) fn word(&self, name: &str) -> Result<Option<String>, Error> {
        self.take(name, |text| match text.len() {
            1..=WORD_BYTES_MAX => Ok(text.to_owned()),
            _ => Err(Invalid { allowed: format!("a text of 1 to {WORD_BYTES_MAX} bytes") }),
        })
    }

    /// `reason`: why an admin does this.
    pub(super) fn reason(&self) -> Result<Option<Note>, Error> {
        self.take("reason", Note::new)
    }

    pub(super) fn semaphore(&self) -> Result<Option<SemaphoreName>, Error> {
        self.take("semaphore", SemaphoreName::new)
    }

    pub(super) fn holder(&self) -> Result<Option<Holder>, Error> {
        self.take("holder", Holder::new)
    }

    pub(super) fn state(&self) -> Result<Option<ListedState>, Error> {
        self.take("state", |text| match text {
            "waiting" => Ok(ListedState::Waiting),
            "offered" => Ok(ListedState::Offered),
            "held" => Ok(ListedState::Held),
            _ => Err(Invalid { allowed: "waiting, offered or held".into() }),
        })
    }

    pub(super) fn limit(&self) -> Result<usize, Error> {
        let limit = self.take("limit", |text| match text.parse() {
            Ok(limit @ 1..=LIMIT_MAX) => Ok(limit),
            _ => Err(Invalid { allowed: format!("a whole number from 1 to {LIMIT_MAX}") }),
        })?;
        Ok(limit.unwrap_or(LIMIT_DEFAULT))
    }

    pub(super) fn after(&self) -> Result<Option<Cursor>, Error> {
        self.take("after", |text| {
            read_cursor(text)
                .ok_or_else(|| Invalid { allowed: "the `next` of the page before".into() })
        })
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let meant = nearest(name, known.iter().copied());
    let meant = meant.map_or_else(String::new, |meant| format!(", did you mean `{meant}`?"));
    match known {
        [] => "is unknown; this call has none".to_owned(),
        _ => format!("is unknown{meant}; allowed are {}", known.join(", ")),
    }
}

/// The wait of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wait {
    /// How long it may block; `None` when it may not.
    pub(super) wait: Option<Duration>,
    /// What is to be said in `Preference-Applied`.
    pub(super) applied: Option<Duration>,
}

/// A cursor as clients see it: opaque to them.
pub(super) fn write_cursor(cursor: Cursor) -> String {
    match cursor {
        Cursor::Sequence(sequence) => format!("s{sequence}"),
        Cursor::Place(place) => format!("q{}.{}", place.priority().value(), place.sequence),
    }
}

fn read_cursor(text: &str) -> Option<Cursor> {
    if let Some(sequence) = text.strip_prefix('s') {
        return sequence.parse().ok().map(|sequence| Cursor::Sequence(Sequence(sequence)));
    }
    let (priority, sequence) = text.strip_prefix('q')?.split_once('.')?;
    let priority = Priority::new(priority.parse().ok()?).ok()?;
    Some(Cursor::Place(Place::new(priority, Sequence(sequence.parse().ok()?))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Credentials, Endpoint};

    fn call(query: &[(&str, &str)], prefer_wait: Option<u64>) -> Call {
        Call {
            endpoint: Endpoint::ListClaims,
            query: query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            prefer_wait: prefer_wait.map(Duration::from_secs),
            body: Vec::new(),
            peer: None,
            method: "GET".into(),
            path: "/api/v1/claims".into(),
            credentials: Credentials::None,
            address: None,
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        let check = |query: &[(&str, &str)], expected: &str| {
            let call = call(query, None);
            let error = Query::of(&call, &["wait", "since"]).err().unwrap();
            assert_eq!(error.to_string(), expected);
        };
        check(
            &[("wiat", "1")],
            "query parameter `wiat` is unknown, did you mean `wait`?; allowed are wait, since",
        );
        check(
            &[("wait", "1"), ("wait", "1")],
            "query parameter `wait` is there twice; leave one out",
        );
    }

    #[test]
    fn the_wait_is_capped_and_the_query_wins() {
        let wait = |query: &[(&str, &str)], prefer| {
            let call = call(query, prefer);
            let query = Query::of(&call, &["wait"]).unwrap();
            let wait = query.wait(Duration::from_secs(50)).unwrap();
            (wait.wait.map(|w| w.as_secs()), wait.applied.map(|w| w.as_secs()))
        };
        assert_eq!(wait(&[], None), (None, None));
        assert_eq!(wait(&[("wait", "30")], None), (Some(30), None));
        assert_eq!(wait(&[("wait", "2m")], None), (Some(50), None));
        assert_eq!(wait(&[("wait", "0")], None), (None, None));
        assert_eq!(wait(&[], Some(70)), (Some(50), Some(50)));
        assert_eq!(wait(&[("wait", "5s")], Some(70)), (Some(5), None));
        let call = call(&[("wait", "soon")], None);
        let query = Query::of(&call, &["wait"]).unwrap();
        assert!(query.wait(Duration::from_secs(50)).is_err());
    }

    #[test]
    fn cursors_come_back_as_they_were() {
        let place = Place::new(Priority::new(-7).unwrap(), Sequence(9));
        for cursor in [Cursor::Sequence(Sequence(3)), Cursor::Place(place)] {
            assert_eq!(read_cursor(&write_cursor(cursor)), Some(cursor));
        }
        for wrong in ["", "3", "s", "sx", "q1", "q200.1", "q1.x"] {
            assert_eq!(read_cursor(wrong), None, "{wrong:?}");
        }
    }
}
