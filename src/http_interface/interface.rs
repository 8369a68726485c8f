//! From request to call and from reply to response.

use std::sync::Arc;

use super::{
    Client, Error, Framing, Head, Proxies, Request, Response, authorization, content_type, framing,
    prefer, problem, query, status,
};
use crate::{
    api::{self, Answer, Blocked, Call, Calls, Reply, Step},
    model::Revision,
    router::Routes,
};

/// How much a request may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of the request target: path and query.
    pub target_bytes_max: usize,
    /// Number of headers.
    pub headers_max: usize,
    /// Length of all headers, names and values.
    pub header_bytes_max: usize,
    /// Length of the body.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    /// 4 KiB of target, 64 headers of 16 KiB, 64 KiB of body.
    fn default() -> Limits {
        Limits {
            target_bytes_max: 4 * 1_024,
            headers_max: 64,
            header_bytes_max: 16 * 1_024,
            body_bytes_max: 64 * 1_024,
        }
    }
}

/// A request that is refused before its body was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer.
    pub response: Response,
    /// How the unread body is framed; `None` when that is not known, and nothing may be read from the
    /// connection any more (RFC 9112, section 6.3).
    pub framing: Option<Framing>,
}

/// What became of a request.
pub enum Handled {
    /// A response at once.
    Ready {
        /// The response.
        response: Response,
        /// What has to be committed before it may be sent; 0 when nothing has to.
        after: Revision,
    },
    /// The call has to wait: give it to a thread that may block.
    Blocked(BlockedCall),
}

/// The HTTP side of the API. Shared by all threads; holds no state of its own.
pub struct Interface {
    calls: Arc<dyn Calls>,
    routes: Routes,
    limits: Limits,
    proxies: Proxies,
}

impl Interface {
    /// Puts HTTP in front of the API.
    ///
    /// # Errors
    /// When the table of routes contradicts itself: a bug, which any test finds.
    pub fn new(calls: Arc<dyn Calls>, limits: Limits) -> Result<Interface, matchit::InsertError> {
        Ok(Interface { calls, routes: Routes::new()?, limits, proxies: Proxies::default() })
    }

    /// Believes these proxies where a client is.
    #[must_use]
    pub fn trusting(self, proxies: Proxies) -> Interface {
        Interface { proxies, ..self }
    }

    /// The bounds that requests are held to.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Checks what can be checked before the body is read, and says how to read it.
    ///
    /// # Errors
    /// The answer to give instead of reading the body. Paths, methods and content types are not looked at
    /// here: those bodies are short, and reading them keeps the connection in use.
    pub fn check_head(&self, head: &Head) -> Result<Framing, Box<Refusal>> {
        let framing = framing::framing_of(head);
        let checked = match framing {
            Ok(framing) => self.check_sizes(head, framing).map(|()| framing),
            Err(ref error) => Err(error.clone()),
        };
        checked.map_err(|error| {
            let response = problem::of_error(&error).for_method(head.is_head());
            Box::new(Refusal { response, framing: framing.ok() })
        })
    }

    fn check_sizes(&self, head: &Head, framing: Framing) -> Result<(), Error> {
        let Limits { target_bytes_max, headers_max, header_bytes_max, body_bytes_max } =
            self.limits;
        if head.target.len() > target_bytes_max {
            return Err(Error::TargetTooLong { bytes_max: target_bytes_max });
        }
        let header_bytes: usize = head.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        if head.headers.len() > headers_max || header_bytes > header_bytes_max {
            return Err(Error::HeadersTooLarge { headers_max, bytes_max: header_bytes_max });
        }
        match framing {
            Framing::Length(bytes) if usize::try_from(bytes).is_ok_and(|b| b <= body_bytes_max) => {
                Ok(())
            }
            Framing::Length(_) => Err(Error::BodyTooLarge { bytes_max: body_bytes_max }),
            Framing::Empty | Framing::Chunked => Ok(()),
        }
    }

    /// Handles a request of a client. Never blocks on a permit.
    #[must_use]
    pub fn handle(&self, request: Request, client: Client) -> Handled {
        let head_only = request.head.is_head();
        match self.call_of(request, client) {
            Err(error) => Handled::Ready {
                response: problem::of_error(&error).for_method(head_only),
                after: Revision(0),
            },
            Ok(call) => match self.calls.handle(call) {
                Step::Done(reply) => {
                    let (response, after) = response_of(reply, head_only);
                    Handled::Ready { response, after }
                }
                Step::Blocked(call) => Handled::Blocked(BlockedCall { call, head_only }),
            },
        }
    }

    fn call_of(&self, request: Request, client: Client) -> Result<Call, Error> {
        let Request { head, body } = request;
        let body_bytes_max = self.limits.body_bytes_max;
        if body.len() > body_bytes_max {
            return Err(Error::BodyTooLarge { bytes_max: body_bytes_max });
        }
        let target = head.target();
        let endpoint = self.routes.find(&head.method, target.path)?;
        // Without a body too where a page of the web asks: a POST is all that its browser sends to another site unasked.
        let is_of_a_page = head.method == "POST" && head.values("origin").next().is_some();
        if !body.is_empty() || is_of_a_page {
            content_type::check(&head.method, head.values("content-type").next())?;
        }
        let query = query::parse_query(target.query);
        let prefer_wait = prefer::wait_preferred(head.values("prefer"));
        let credentials = authorization::credentials(&head);
        let address = client.address.map(|peer| self.proxies.client(&head, peer));
        let path = target.path.to_owned();
        let Client { peer, .. } = client;
        let method = head.method;
        Ok(Call { endpoint, method, path, credentials, address, query, prefer_wait, body, peer })
    }

    /// The answer to a request that is not handed to the API at all, in the API's own words.
    #[must_use]
    pub fn refuse(head: &Head, error: &api::Error) -> Response {
        problem::of_api_error(error).for_method(head.is_head())
    }

    /// The answer to a request whose body did not come whole, or was too long for the bound after all.
    #[must_use]
    pub fn refuse_body(&self, head: &Head, error: &Error) -> Response {
        problem::of_error(error).for_method(head.is_head())
    }

    /// Runs `then` as soon as `revision` is committed; see [`Calls::after_commit`].
    #[must_use]
    pub fn after_commit(&self, revision: Revision, then: Box<dyn FnOnce() + Send>) -> bool {
        self.calls.after_commit(revision, then)
    }

    /// Commits; see [`Calls::commit`].
    pub fn commit(&self) -> bool {
        self.calls.commit()
    }
}

/// A call that waits.
pub struct BlockedCall {
    call: Box<dyn Blocked>,
    head_only: bool,
}

impl BlockedCall {
    /// Blocks until there is a response, and says what has to be committed before it may be sent.
    #[must_use]
    pub fn wait(self) -> (Response, Revision) {
        response_of(self.call.wait(), self.head_only)
    }

    /// Does not wait after all: the answer where no thread is left for it.
    #[must_use]
    pub fn refuse(self, error: &api::Error) -> Response {
        problem::of_api_error(error).for_method(self.head_only)
    }
}

fn response_of(reply: Reply, head_only: bool) -> (Response, Revision) {
    let Reply { result, after } = reply;
    let response = match result {
        Ok(answer) => response_of_answer(answer),
        Err(error) => problem::of_api_error(&error),
    };
    (response.for_method(head_only), after)
}

fn response_of_answer(answer: Answer) -> Response {
    let Answer { outcome, body, download, revision, location, retry_after_seconds, wait_applied } =
        answer;
    let status = status::of_outcome(outcome);
    let mut response = match (body, download) {
        (Some(body), _) => {
            Response::new(status, body.into_bytes()).with("Content-Type", "application/json")
        }
        (None, download) => {
            let response = match download {
                Some(download) => Response::download(status, *download),
                None => Response::new(status, Vec::new()),
            };
            match revision {
                Some(revision) => response.with("Semaphore-Revision", revision.to_string()),
                None => response,
            }
        }
    };
    if let Some(location) = location {
        response = response.with("Location", location);
    }
    if let Some(seconds) = retry_after_seconds {
        response = response.with("Retry-After", seconds.to_string());
    }
    if let Some(wait) = wait_applied {
        // RFC 7240, section 3: says that the preference was honoured, with the value that was applied.
        response = response.with("Preference-Applied", format!("wait={}", wait.as_secs()));
    }
    response
}
