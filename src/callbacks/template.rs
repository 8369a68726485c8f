//! Bodies that an admin writes: a JSON document with placeholders in its texts.
//!
//! The document is parsed first and filled in afterwards, text by text, so a value can break out of nothing,
//! whatever it contains. Placeholders: `{{id}}`, `{{fences}}`, `{{holder}}`, `{{webhook_id}}`, and
//! `{{vars.NAME}}`, which makes NAME a var that every claim has to give. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::event::Event;
use crate::model::Vars;

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 16 * 1_024;
/// Longest body made from a template, in bytes: a short template may name a long var often.
const RENDERED_BYTES_MAX: usize = 256 * 1_024;

/// A checked template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    document: Value,
    vars: BTreeSet<String>,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// Too long.
    #[error("the template has more than 16384 bytes")]
    TooLong,
    /// Not JSON.
    #[error("the template is not JSON: {0}")]
    NotJson(String),
    /// A placeholder that means nothing.
    #[error(
        "the template has the unknown placeholder {{{{{0}}}}}: there are {{{{id}}}}, {{{{fences}}}}, \
         {{{{holder}}}}, {{{{webhook_id}}}} and {{{{vars.NAME}}}}"
    )]
    Unknown(String),
    /// `{{` without `}}`.
    #[error("the template has `{{{{` without `}}}}` in {0:?}")]
    Unclosed(String),
    /// A placeholder where it is not filled in.
    #[error(
        "the template has a placeholder in the name of a member, {0:?}: only values are filled in"
    )]
    InName(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// It is too long, no JSON, or has a placeholder that means nothing.
    pub fn parse(text: &str) -> Result<Template, TemplateProblem> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateProblem::TooLong);
        }
        let document: Value = serde_json::from_str(text)
            .map_err(|error| TemplateProblem::NotJson(error.to_string()))?;
        let mut vars = BTreeSet::new();
        look_through(&document, &mut vars)?;
        Ok(Template { document, vars })
    }

    /// The vars that it names: each has to be given.
    pub fn vars(&self) -> impl Iterator<Item = &str> {
        self.vars.iter().map(String::as_str)
    }

    /// The body for an event, or `None` when it would be longer than 256 KiB. A var that is not given is an
    /// empty text.
    #[must_use]
    pub fn render(&self, event: &Event, vars: &[(&str, &str)]) -> Option<String> {
        let value_of = |placeholder: &str| match placeholder {
            "id" => event.claim_id.as_str(),
            "fences" => &event.fences_json,
            "holder" => event.holder.as_deref().unwrap_or_default(),
            "webhook_id" => &event.webhook_id,
            other => {
                let name = other.strip_prefix("vars.").unwrap_or(other);
                vars.iter().find(|(given, _)| *given == name).map_or("", |(_, value)| value)
            }
        };
        let mut document = self.document.clone();
        let mut room = RENDERED_BYTES_MAX;
        fill(&mut document, &value_of, &mut room)?;
        Some(document.to_string())
    }
}

fn look_through(value: &Value, vars: &mut BTreeSet<String>) -> Result<(), TemplateProblem> {
    match value {
        Value::String(text) => {
            for part in parts(text)? {
                if let Part::Placeholder(name) = part {
                    check_placeholder(name, vars)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| look_through(item, vars)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            if name.contains("{{") {
                return Err(TemplateProblem::InName(name.clone()));
            }
            look_through(value, vars)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_placeholder(name: &str, vars: &mut BTreeSet<String>) -> Result<(), TemplateProblem> {
    if matches!(name, "id" | "fences" | "holder" | "webhook_id") {
        return Ok(());
    }
    let var = name.strip_prefix("vars.");
    match var.filter(|var| Vars::new(vec![((*var).to_owned(), String::new())]).is_ok()) {
        Some(var) => {
            vars.insert(var.to_owned());
            Ok(())
        }
        None => Err(TemplateProblem::Unknown(name.to_owned())),
    }
}

enum Part<'t> {
    Text(&'t str),
    Placeholder(&'t str),
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, TemplateProblem> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            return Err(TemplateProblem::Unclosed(text.to_owned()));
        };
        parts.extend([Part::Text(before), Part::Placeholder(name.trim())]);
        rest = behind;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// Fills in the texts; `None` when there is no `room` left.
fn fill<'v>(
    value: &mut Value,
    value_of: &impl Fn(&str) -> &'v str,
    room: &mut usize,
) -> Option<()> {
    match value {
        Value::String(text) => {
            let mut filled = String::new();
            for part in parts(text).ok()? {
                let piece = match part {
                    Part::Text(piece) => piece,
                    Part::Placeholder(name) => value_of(name),
                };
                *room = room.checked_sub(piece.len())?;
                filled.push_str(piece);
            }
            *text = filled;
            Some(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, value_of, room)),
        Value::Object(members) => {
            members.values_mut().try_for_each(|member| fill(member, value_of, room))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callbacks::event::tests::sample;

    #[test]
    fn values_are_filled_in_and_break_out_of_nothing() {
        let template = Template::parse(
            r#"{"text": "{{holder}} may start {{ id }}: {{vars.note}}!", "n": [1, "{{fences}}", "{{webhook_id}}"]}"#,
        )
        .unwrap();
        assert_eq!(template.vars().collect::<Vec<_>>(), ["note"]);
        let body = template.render(&sample(), &[("note", r#"", "admin": "{{id}}"#)]).unwrap();
        let expected = serde_json::json!({
            "text": "job \"412\" \\ \u{fc} may start 7f3c: \", \"admin\": \"{{id}}!",
            "n": [1, "{\"FlexLM-Riviera\":8812}", "evt_7f3c_1"],
        });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    }

    #[test]
    fn what_is_filled_in_is_bounded() {
        let template = format!("[{}\"\"]", "\"{{vars.a}}\",".repeat(1_000));
        let template = Template::parse(&template).unwrap();
        assert!(template.render(&sample(), &[("a", &"x".repeat(200))]).is_some());
        assert_eq!(template.render(&sample(), &[("a", &"x".repeat(300))]), None);
    }

    #[test]
    fn wrong_templates_say_why() {
        for (text, expected) in [
            ("{", "is not JSON: EOF"),
            (r#"["{{ids}}"]"#, "unknown placeholder {{ids}}"),
            (r#"["{{vars.a-b}}"]"#, "unknown placeholder {{vars.a-b}}"),
            (r#"["{{vars.}}"]"#, "unknown placeholder"),
            (r#"["{{id"]"#, "`{{` without `}}`"),
            (r#"{"{{id}}": 1}"#, "in the name of a member"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let long = format!("\"{}\"", "x".repeat(TEMPLATE_BYTES_MAX));
        assert_eq!(Template::parse(&long), Err(TemplateProblem::TooLong));
    }
}
