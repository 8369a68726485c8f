//! Just enough of JSON Schema 2020-12 to hold replies against `openapi.json`.
//!
//! A keyword that is not known here is an error, so a schema cannot pass because a rule was overlooked.
//! Formats are not checked; where one matters the schema has a pattern too. That the document and its
//! examples are right by the whole standard is checked by `tests/openapi`.

use std::collections::BTreeSet;

use regex_lite::Regex;
use serde_json::{Map, Value};

/// What is wrong with values, collected.
pub(crate) type Faults = Vec<String>;

/// Keywords that say nothing about a value.
const NOTES: [&str; 6] = ["description", "default", "examples", "example", "format", "title"];

/// The schemas of a document, for its references.
#[derive(Clone, Copy)]
pub(crate) struct Schemas<'d> {
    pub(crate) document: &'d Value,
}

impl<'d> Schemas<'d> {
    /// Follows a `$ref`, if there is one.
    pub(crate) fn resolve(self, node: &'d Value) -> &'d Value {
        match node.get("$ref") {
            Some(reference) => self.target(reference),
            None => node,
        }
    }

    fn target(self, reference: &Value) -> &'d Value {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        self.document.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"))
    }

    /// What is wrong with a value. With `all_known` a member that the schema does not name is wrong too.
    pub(crate) fn faults(self, schema: &Value, value: &Value, all_known: bool) -> Faults {
        let mut faults = Faults::new();
        self.check(schema, value, "$", all_known, &mut faults);
        faults
    }

    fn check(self, schema: &Value, value: &Value, at: &str, all_known: bool, out: &mut Faults) {
        self.apply(schema, value, at, all_known, out);
        let named = all_known && schema.is_object();
        let (Some(object), true) = (value.as_object(), named) else { return };
        let mut known = BTreeSet::new();
        if !self.members(schema, &mut known) {
            let unknown = object.keys().filter(|name| !known.contains(name.as_str()));
            out.extend(unknown.map(|name| format!("{at}.{name} is not documented")));
        }
    }

    /// Collects the members that a schema names; `true` when it allows others.
    fn members<'s>(self, schema: &'s Value, known: &mut BTreeSet<&'s str>) -> bool
    where
        'd: 's,
    {
        let names = schema.get("properties").and_then(Value::as_object);
        known.extend(names.into_iter().flatten().map(|(name, _)| name.as_str()));
        let others = schema.get("additionalProperties").is_some_and(|others| *others != false);
        let target = schema.get("$ref").map(|reference| self.target(reference));
        let choices = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let more = target.into_iter().chain(choices);
        more.fold(others, |others, schema| self.members(schema, known) || others)
    }

    fn apply(self, schema: &Value, value: &Value, at: &str, all_known: bool, out: &mut Faults) {
        let Some(rules) = schema.as_object() else {
            if *schema == false {
                out.push(format!("{at} must not be there"));
            }
            return;
        };
        for (keyword, rule) in rules {
            match keyword.as_str() {
                "$ref" => self.apply(self.target(rule), value, at, all_known, out),
                "allOf" => {
                    for schema in rule.as_array().unwrap() {
                        self.apply(schema, value, at, all_known, out);
                    }
                }
                "oneOf" => {
                    let schemas = rule.as_array().unwrap();
                    let fits = |schema: &&Value| self.faults(schema, value, false).is_empty();
                    if schemas.iter().filter(fits).count() != 1 {
                        out.push(format!("{at} is not one of those that it may be: {value}"));
                    }
                }
                "not" if self.faults(rule, value, false).is_empty() => {
                    out.push(format!("{at} is what it must not be: {value}"));
                }
                "if" if self.faults(rule, value, false).is_empty() => {
                    self.apply(&rules["then"], value, at, false, out);
                }
                "not" | "if" | "then" => {}
                note if NOTES.contains(&note) => {}
                _ if self.apply_to_members(rules, keyword, rule, value, at, all_known, out) => {}
                _ => {
                    if !holds(keyword, rule, value) {
                        out.push(format!("{at} breaks {keyword} {rule}: {value}"));
                    }
                }
            }
        }
    }

    /// Applies a keyword that is about members or items; `false` when it is another.
    #[expect(clippy::too_many_arguments, reason = "all of it is the place in the recursion")]
    fn apply_to_members(
        self,
        rules: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        at: &str,
        all_known: bool,
        out: &mut Faults,
    ) -> bool {
        let none = Map::new();
        let object = value.as_object().unwrap_or(&none);
        match keyword {
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(member) = object.get(name) {
                        self.check(schema, member, &format!("{at}.{name}"), all_known, out);
                    }
                }
            }
            "additionalProperties" => {
                let named = rules.get("properties").and_then(Value::as_object).unwrap_or(&none);
                for (name, member) in object.iter().filter(|(name, _)| !named.contains_key(*name)) {
                    self.check(rule, member, &format!("{at}.{name}"), all_known, out);
                }
            }
            "propertyNames" => {
                for name in object.keys() {
                    let name = Value::from(name.as_str());
                    self.apply(rule, &name, &format!("{at} (a name)"), false, out);
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(rule, item, &format!("{at}[{index}]"), all_known, out);
                }
            }
            _ => return false,
        }
        true
    }
}

/// Whether a value keeps a rule that needs no other schema. As in the standard, a rule about one type
/// holds for values of all others.
fn holds(keyword: &str, rule: &Value, value: &Value) -> bool {
    let size = rule.as_u64().and_then(|size| usize::try_from(size).ok());
    let at_most = |length: Option<usize>| length.is_none_or(|length| Some(length) <= size);
    let at_least = |length: Option<usize>| length.is_none_or(|length| Some(length) >= size);
    let text = value.as_str();
    match keyword {
        "type" => match rule.as_array() {
            Some(types) => types.iter().any(|rule| is_type(rule, value)),
            None => is_type(rule, value),
        },
        "const" => rule == value,
        "enum" => rule.as_array().unwrap().contains(value),
        "pattern" => {
            text.is_none_or(|text| Regex::new(rule.as_str().unwrap()).unwrap().is_match(text))
        }
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "minLength" => at_least(text.map(|text| text.chars().count())),
        "maxLength" => at_most(text.map(|text| text.chars().count())),
        "minItems" => at_least(value.as_array().map(Vec::len)),
        "maxItems" => at_most(value.as_array().map(Vec::len)),
        "minProperties" => at_least(value.as_object().map(Map::len)),
        "maxProperties" => at_most(value.as_object().map(Map::len)),
        "required" => value.as_object().is_none_or(|object| {
            rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
        }),
        _ => panic!("the keyword {keyword} is unknown to this test; teach it"),
    }
}

fn is_type(rule: &Value, value: &Value) -> bool {
    match rule.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("{other} is no type"),
    }
}

#[test]
fn the_checker_finds_faults() {
    let document = serde_json::json!({"N": {"type": "integer", "minimum": 1}});
    let schemas = Schemas { document: &document };
    let schema = serde_json::json!({
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"$ref": "#/N", "maximum": 5}, "b": {"type": ["string", "null"],
            "pattern": "^[xy]+$", "maxLength": 2}},
        "allOf": [{"if": {"properties": {"a": {"const": 2}}}, "then": {"required": ["b"]}}],
    });
    for (value, faults) in [
        (r#"{"a": 1}"#, 0),
        (r#"{"a": 2, "b": null}"#, 0),
        (r#"{"a": 2}"#, 1),
        (r#"{"a": 6, "b": "xyz"}"#, 3),
        (r#"{"a": 1.5, "c": 1}"#, 2),
        ("{}", 2),
        ("5", 1),
    ] {
        let found = schemas.faults(&schema, &serde_json::from_str(value).unwrap(), true);
        assert_eq!(found.len(), faults, "{value}: {found:?}");
    }
}
