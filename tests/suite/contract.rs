//! `openapi.json` as a contract: holds single exchanges against it, and remembers what it has seen.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    daemon::Daemon,
    http::{Request, Response},
    schema::Schemas,
};

/// Headers that every answer may have and no operation documents.
const GENERAL_HEADERS: [&str; 6] =
    ["cache-control", "connection", "content-length", "content-type", "date", "server"];
/// Codes that say of a body what its schema says too.
const SCHEMA_CODES: [&str; 3] = ["unknown-member", "missing-member", "invalid-member"];

/// An operation: `PUT /api/v1/claims/{id}`.
type Operation = String;

/// The document, what was seen of it, and what was wrong.
pub(crate) struct Contract {
    document: Value,
    seen: BTreeSet<(Operation, u16)>,
    codes: BTreeSet<String>,
    faults: Vec<String>,
}

impl Contract {
    pub(crate) fn new() -> Contract {
        Contract {
            document: serde_json::from_str(include_str!("../../src/api/openapi.json")).unwrap(),
            seen: BTreeSet::new(),
            codes: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    /// Sends a request and holds the exchange against the document.
    pub(crate) fn send(&mut self, daemon: &Daemon, request: &Request) -> Response {
        let response = daemon.send(request);
        self.check(request, &response);
        response
    }

    /// As [`Contract::send`], with a JSON body or none.
    pub(crate) fn call(
        &mut self,
        daemon: &Daemon,
        method: &str,
        target: &str,
        body: &str,
    ) -> Response {
        self.send(daemon, &Request::json(method, target, body))
    }

    /// Holds an exchange against the document.
    pub(crate) fn check(&mut self, request: &Request, response: &Response) {
        self.hold(request, response, true);
    }

    /// Holds an answer against the document, and not what was asked: some of what is refused no schema
    /// can tell, such as a length in bytes or one setting above another.
    pub(crate) fn check_answer(&mut self, request: &Request, response: &Response) {
        self.hold(request, response, false);
    }

    fn hold(&mut self, request: &Request, response: &Response, asked_too: bool) {
        let what = format!("{} {:.60} → {}", request.method, request.target, response.status);
        let found = Exchange { document: &self.document, request, response, asked_too }.faults();
        let (operation, faults) = match found {
            Ok((operation, faults)) => (operation, faults),
            Err(fault) => (None, vec![fault]),
        };
        let text = String::from_utf8_lossy(&response.body);
        self.faults.extend(faults.iter().map(|fault| format!("{what}: {fault}\n    {text:.300}")));
        if let Some(operation) = operation {
            self.seen.insert((operation, response.status));
        }
        if response.header("Content-Type") == Some("application/problem+json")
            && request.method != "HEAD"
        {
            self.codes.insert(response.code());
        }
    }

    /// Every operation with its method and path template.
    pub(crate) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        let methods = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        });
        methods.collect()
    }

    /// One operation, by its method and path template.
    pub(crate) fn operation(&self, method: &str, path: &str) -> &Value {
        &self.document["paths"][path][method.to_lowercase()]
    }

    /// The codes that an operation's answer with this status may have; none where it has no such answer.
    pub(crate) fn codes(&self, method: &str, path: &str, status: &str) -> BTreeSet<&str> {
        let Some(answer) = self.operation(method, path)["responses"].get(status) else {
            return BTreeSet::new();
        };
        let answer = Schemas { document: &self.document }.resolve(answer);
        let schema = &answer["content"]["application/problem+json"]["schema"];
        let codes = schema["properties"]["code"]["enum"].as_array().into_iter().flatten();
        codes.map(|code| code.as_str().unwrap()).collect()
    }

    /// Every documented pair of operation and status that was not seen.
    pub(crate) fn unseen(&self) -> BTreeSet<(Operation, u16)> {
        let documented = self.operations().into_iter().flat_map(|(method, path)| {
            let responses = &self.document["paths"][&path][method.to_lowercase()]["responses"];
            let statuses = responses.as_object().unwrap().keys();
            let pair = |status: &String| (format!("{method} {path}"), status.parse().unwrap());
            statuses.map(pair).collect::<Vec<_>>()
        });
        documented.filter(|pair| !self.seen.contains(pair)).collect()
    }

    /// Every documented code that was not seen.
    pub(crate) fn unseen_codes(&self) -> Vec<&str> {
        let codes =
            &self.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let codes = codes.as_array().unwrap().iter().map(|code| code.as_str().unwrap());
        codes.filter(|code| !self.codes.contains(*code)).collect()
    }

    /// Takes over what another has seen.
    pub(crate) fn merge(&mut self, other: Contract) {
        self.seen.extend(other.seen);
        self.codes.extend(other.codes);
        self.faults.extend(other.faults);
    }

    /// Fails with everything that was wrong.
    pub(crate) fn assert_kept(&self) {
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
    }
}

/// One request with its answer, and the document.
struct Exchange<'e> {
    document: &'e Value,
    request: &'e Request,
    response: &'e Response,
    asked_too: bool,
}

type Faults = Vec<String>;

impl<'e> Exchange<'e> {
    fn schemas(&self) -> Schemas<'e> {
        Schemas { document: self.document }
    }

    /// The operation, if it is one, and what is wrong.
    fn faults(&self) -> Result<(Option<Operation>, Faults), String> {
        let components = &self.document["components"]["responses"];
        let wanted = match self.request.method.as_str() {
            "HEAD" => "get".to_owned(),
            // Methods are case-sensitive, and the document has its keys in lower case.
            method if method != method.to_uppercase() => format!("{method} is no method"),
            method => method.to_lowercase(),
        };
        let Some((template, path)) = self.path() else {
            return Ok((None, self.answer(&components["UnknownPath"], 404)));
        };
        let Some(operation) = path.get(&wanted) else {
            return Ok((None, self.answer(&components["MethodNotAllowed"], 405)));
        };
        let status = self.response.status;
        let Some(answer) = operation["responses"].get(status.to_string()) else {
            return Err(format!("{wanted} {template} does not document this status"));
        };
        let mut faults = self.answer(self.schemas().resolve(answer), status);
        if self.asked_too && self.request.method != "HEAD" {
            faults.extend(self.body_asked(operation));
            faults.extend(self.parameters(operation));
        }
        Ok((Some(format!("{} {template}", wanted.to_uppercase())), faults))
    }

    /// The path of the document that the target matches.
    fn path(&self) -> Option<(&'e String, &'e Value)> {
        let path = self.request.target.split('?').next().unwrap();
        let fits = |template: &str| {
            let (mut given, mut wanted) = (path.split('/'), template.split('/'));
            let same = given.by_ref().zip(wanted.by_ref()).all(|(given, wanted)| {
                given == wanted || wanted.starts_with('{') && !given.is_empty()
            });
            same && path.split('/').count() == template.split('/').count()
        };
        self.document["paths"].as_object().unwrap().iter().find(|(template, _)| fits(template))
    }

    /// Holds the answer against its description.
    fn answer(&self, described: &Value, status: u16) -> Faults {
        let mut faults = self.headers(described);
        if self.response.status != status {
            faults.push(format!("the status should be {status}"));
        }
        let content_type = self.response.header("Content-Type");
        let Some(content) = described.get("content") else {
            if content_type.is_some() || !self.response.body.is_empty() {
                faults.push("there should be no body".into());
            }
            return faults;
        };
        match content_type.and_then(|content_type| content.get(content_type)) {
            None => faults.push(format!("content type {content_type:?} is not documented")),
            Some(_) if self.request.method == "HEAD" => {}
            // A file: what is in it is for other tests.
            Some(media) if media.get("schema").is_none() => {}
            Some(media) => {
                let body = self.response.json();
                faults.extend(self.schemas().faults(&media["schema"], &body, true));
            }
        }
        faults
    }

    fn headers(&self, described: &Value) -> Faults {
        let mut faults = Faults::new();
        if self.response.header("Cache-Control") != Some("no-store") {
            faults.push("it may be cached".into());
        }
        let none = serde_json::Map::new();
        let documented = described.get("headers").and_then(Value::as_object).unwrap_or(&none);
        for (name, header) in documented {
            let header = self.schemas().resolve(header);
            match self.response.header(name) {
                None if header.get("required") == Some(&Value::Bool(true)) => {
                    faults.push(format!("the header {name} is missing"));
                }
                None => {}
                Some(text) => {
                    let value = match header["schema"]["type"].as_str() {
                        Some("integer") => text.parse::<u64>().map_or(Value::Null, Value::from),
                        _ => Value::from(text),
                    };
                    faults.extend(self.schemas().faults(&header["schema"], &value, true));
                }
            }
        }
        let known = |name: &str| {
            GENERAL_HEADERS.contains(&name.to_lowercase().as_str())
                || documented.keys().any(|documented| documented.eq_ignore_ascii_case(name))
        };
        let unknown = self.response.headers.iter().filter(|(name, _)| !known(name));
        faults.extend(unknown.map(|(name, _)| format!("the header {name} is not documented")));
        faults
    }

    /// A body that was taken is documented, and one that was refused for a member is not.
    fn body_asked(&self, operation: &Value) -> Faults {
        let Ok(body) = serde_json::from_slice(&self.request.body) else { return Faults::new() };
        let content_type = self.request.header("Content-Type").unwrap_or_default();
        let taken = self.response.status < 300;
        let media = &operation["requestBody"]["content"][content_type];
        if media.is_null() {
            return if taken { vec!["it takes no such body".into()] } else { Faults::new() };
        }
        let faults = self.schemas().faults(&media["schema"], &body, false);
        let refused =
            self.response.status == 422 && SCHEMA_CODES.contains(&self.response.code().as_str());
        match (taken, refused) {
            (true, _) => faults,
            (_, true) if faults.is_empty() => vec!["refused, and right by its schema".into()],
            _ => Faults::new(),
        }
    }

    /// A query that was taken has documented parameters alone.
    fn parameters(&self, operation: &Value) -> Faults {
        let none = Vec::new();
        let documented = operation.get("parameters").and_then(Value::as_array).unwrap_or(&none);
        let documented: Vec<&Value> =
            documented.iter().map(|parameter| self.schemas().resolve(parameter)).collect();
        let query = self.request.target.split_once('?').map_or("", |(_, query)| query);
        let taken = self.response.status < 300;
        let given = query.split('&').filter(|piece| taken && !piece.is_empty());
        given
            .filter(|piece| {
                let name = piece.split('=').next().unwrap();
                !documented.iter().any(|p| p["in"] == "query" && p["name"] == name)
            })
            .map(|piece| format!("the parameter in {piece} is not documented"))
            .collect()
    }
}
