//! Bodies: JSON objects whose members are all known, there once, and of the right kind.

use std::{cell::RefCell, fmt, time::Duration};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Error;
use crate::model::{Invalid, nearest, parse_duration, without_secrets};

/// Longest piece of a wrong value that an error shows, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// The members of a body that were not taken yet.
pub(super) struct Members {
    members: Map<String, Value>,
    /// The members as they were given, in one spelling: what makes two requests the same request.
    canonical: Map<String, Value>,
}

impl Members {
    /// Parses a body; an empty one has no members where that is allowed.
    ///
    /// # Errors
    /// Not JSON, not an object, a member twice, or one that is not `known`.
    pub(super) fn parse(body: &[u8], may_be_empty: bool, known: &[&str]) -> Result<Members, Error> {
        let members = if body.is_empty() && may_be_empty { Map::new() } else { object(body)? };
        if let Some(member) = members.keys().find(|member| !known.contains(&member.as_str())) {
            return Err(Error::UnknownMember {
                member: shorten(member),
                allowed: known.join(", "),
                suggestion: nearest(member, known.iter().copied()).map(str::to_owned),
            });
        }
        Ok(Members { members, canonical: Map::new() })
    }

    /// Takes a member through a parser that also says how the value is written in one spelling.
    ///
    /// # Errors
    /// When it is there and the parser refuses it.
    pub(super) fn take<T>(
        &mut self,
        member: &'static str,
        parse: impl FnOnce(&Value) -> Result<(T, Value), Invalid>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.members.remove(member) else { return Ok(None) };
        let (parsed, canonical) =
            parse(&value).map_err(|invalid| invalid_member(member, &invalid, &value))?;
        self.canonical.insert(member.into(), canonical);
        Ok(Some(parsed))
    }

    /// Takes a member that is an object, without looking into it.
    ///
    /// # Errors
    /// When it is there and not an object.
    pub(super) fn take_object(
        &mut self,
        member: &'static str,
        allowed: &str,
    ) -> Result<Option<Map<String, Value>>, Error> {
        self.take(member, |value| match value {
            Value::Object(object) => Ok((object.clone(), value.clone())),
            _ => Err(Invalid { allowed: allowed.into() }),
        })
    }

    /// Takes a member that is a duration.
    ///
    /// # Errors
    /// When it is there and not a duration from `shortest` to `longest`.
    pub(super) fn take_duration(
        &mut self,
        member: &'static str,
        shortest: Duration,
        longest: Duration,
    ) -> Result<Option<Duration>, Error> {
        self.take(member, |value| {
            let duration = duration(value, shortest, longest)?;
            let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            Ok((duration, Value::from(ms)))
        })
    }

    /// Whether a member is there and `null`; then it is taken.
    pub(super) fn take_null(&mut self, member: &str) -> bool {
        let is_null = self.members.get(member).is_some_and(Value::is_null);
        if is_null {
            self.members.remove(member);
        }
        is_null
    }

    /// All that was taken, in one spelling: members in the order of their names, durations in ms.
    pub(super) fn canonical(self) -> String {
        Value::Object(self.canonical).to_string()
    }
}

/// The error for a member with a wrong value.
pub(super) fn invalid_member(member: &str, invalid: &Invalid, value: &Value) -> Error {
    Error::InvalidMember {
        member: member.into(),
        allowed: invalid.allowed.clone(),
        got: shorten(&value.to_string()),
    }
}

/// A text as an error shows it: not too long, and without control characters, which a terminal may obey.
pub(super) fn shorten(text: &str) -> String {
    let mut shown = String::new();
    for (index, c) in without_secrets(text).chars().enumerate() {
        if index == SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A duration: seconds as a number (to the millisecond), or a text such as `"5m"`.
fn duration(value: &Value, shortest: Duration, longest: Duration) -> Result<Duration, Invalid> {
    let parsed = match value {
        Value::String(text) => parse_duration(text).ok(),
        Value::Number(number) => seconds(number),
        _ => None,
    };
    parsed.filter(|duration| (shortest..=longest).contains(duration)).ok_or_else(|| Invalid {
        allowed: format!(
            "a number of seconds or a text such as \"90s\", \"5m\" or \"2h\", from {} to {}",
            crate::model::format_duration(shortest),
            crate::model::format_duration(longest)
        ),
    })
}

fn seconds(number: &Number) -> Option<Duration> {
    if let Some(seconds) = number.as_u64() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = Duration::try_from_secs_f64(number.as_f64()?).ok()?;
    let ms = seconds.as_nanos().saturating_add(500_000) / 1_000_000;
    u64::try_from(ms).ok().map(Duration::from_millis)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Error> {
    let wrong = |problem: String| Err(Error::InvalidBody { problem });
    if body.is_empty() {
        return wrong("it is empty".into());
    }
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return wrong(format!("it is not UTF-8 after {} bytes", error.valid_up_to())),
    };
    let twice = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Strict { twice: &twice }.deserialize(&mut deserializer);
    if let Some(member) = twice.into_inner() {
        return Err(Error::DuplicateMember { member: shorten(&member) });
    }
    match parsed.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => wrong(format!("it is {}", shorten(&other.to_string()))),
        Err(error) => wrong(format!("it is not JSON: {error}")),
    }
}

/// Reads a value as `serde_json` does, but refuses an object that has a member twice (RFC 8259 §4 leaves
/// it open what such an object means), and notes the member.
#[derive(Clone, Copy)]
struct Strict<'t> {
    twice: &'t RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(member) = members.next_key::<String>()? {
            if object.contains_key(&member) {
                *self.twice.borrow_mut() = Some(member);
                return Err(serde::de::Error::custom("a member is there twice"));
            }
            object.insert(member, members.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &str) -> String {
        match Members::parse(body.as_bytes(), false, &["ttl", "permits"]) {
            Ok(_) => "fine".into(),
            Err(error) => format!("{}: {error}", error.code()),
        }
    }

    #[test]
    fn only_objects_with_known_members_that_are_there_once() {
        assert_eq!(error(r#"{"ttl": 5}"#), "fine");
        assert_eq!(error(""), "invalid-body: the body must be a JSON object, but it is empty");
        assert_eq!(error("[1]"), "invalid-body: the body must be a JSON object, but it is [1]");
        assert_eq!(
            error(r#"{"tll": 5}"#),
            "unknown-member: unknown member `tll`, did you mean `ttl`?; allowed are ttl, permits"
        );
        assert_eq!(
            error(r#"{"ttl": 5, "ttl": 5}"#),
            "duplicate-member: member `ttl` is there twice; leave one out"
        );
        assert_eq!(
            error(r#"{"permits": {"A": 1, "A": 2}}"#),
            "duplicate-member: member `A` is there twice; leave one out"
        );
        assert!(error("{\"ttl\": 5").starts_with("invalid-body"));
        assert!(error(r#"{"ttl": 5} x"#).starts_with("invalid-body"));
        assert!(error(&"[".repeat(10_000)).starts_with("invalid-body"), "depth is bounded");
        let not_utf8 = Members::parse(b"{\"ttl\": \"\xff\"}", false, &["ttl"]);
        assert!(matches!(not_utf8, Err(Error::InvalidBody { .. })));
    }

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        assert_eq!(shorten("a\u{1b}[2J\u{9b}ü"), "a\\u{1b}[2J\\u{9b}ü");
        assert_eq!(shorten(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
        assert_eq!(shorten(&"x".repeat(60)), "x".repeat(60));
    }

    #[test]
    fn durations_in_both_forms() {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(100));
        let read = |json: &str| {
            let mut members = Members::parse(json.as_bytes(), false, &["ttl"]).unwrap();
            members.take_duration("ttl", min, max).map(|duration| duration.unwrap().as_millis())
        };
        for (json, ms) in [
            (r#"{"ttl": 90}"#, 90_000),
            (r#"{"ttl": "90s"}"#, 90_000),
            (r#"{"ttl": "1m"}"#, 60_000),
            (r#"{"ttl": 1.5}"#, 1_500),
        ] {
            assert_eq!(read(json).unwrap(), ms);
        }
        for json in ["0", "0.9", "-5", "101", "1e300", "null", "true", "\"90\"", "\"0s\"", "[1]"] {
            let error = read(&format!(r#"{{"ttl": {json}}}"#)).unwrap_err();
            assert_eq!(error.code(), "invalid-member", "{json}");
        }
    }

    #[test]
    fn one_spelling_for_the_same_request() {
        let canonical = |json: &str| {
            let mut members = Members::parse(json.as_bytes(), false, &["ttl", "permits"]).unwrap();
            let max = Duration::from_secs(1_000);
            members.take_duration("ttl", Duration::ZERO, max).unwrap();
            members.take_object("permits", "an object").unwrap();
            members.canonical()
        };
        let one = canonical(r#"{"ttl": "5m", "permits": {"B": 1, "A": 2}}"#);
        assert_eq!(one, canonical(r#"{ "permits": {"A": 2, "B": 1}, "ttl": 300 }"#));
        assert_ne!(one, canonical(r#"{"permits": {"A": 2, "B": 1}}"#));
    }
}
