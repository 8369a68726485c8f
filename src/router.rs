//! The router: method and path to [`Endpoint`].
//!
//! One table, `ROUTES`, says which endpoints there are; the matching is matchit's. A path is matched
//! segment by segment *before* its segments are percent-decoded (RFC 3986, section 2.4), so an encoded
//! slash stays inside its segment, and a trailing or doubled slash is another path, which does not exist.
//! What varies is handed on decoded and unchecked: the API knows the grammars.
//!
//! Immutable after construction; may be shared between threads.

use percent_encoding::percent_decode_str;

use crate::api::Endpoint;

/// Makes the endpoint from the parts of the path that vary; ignored where none does.
type Make = fn([String; 2]) -> Endpoint;

/// Every path with its methods. HEAD is not listed: it is served wherever GET is.
const ROUTES: &[(&str, &[(&str, Make)])] = &[
    ("/api", &[("GET", |_| Endpoint::Versions)]),
    ("/api/v1", &[("GET", |_| Endpoint::Index)]),
    ("/api/v1/service", &[("GET", |_| Endpoint::Service)]),
    ("/api/v1/backup", &[("GET", |_| Endpoint::Backup)]),
    ("/api/v1/audit", &[("GET", |_| Endpoint::Audit)]),
    ("/api/v1/token", &[("GET", |_| Endpoint::OwnToken)]),
    ("/api/v1/tokens", &[("GET", |_| Endpoint::ListTokens), ("POST", |_| Endpoint::CreateToken)]),
    (
        "/api/v1/tokens/{id}",
        &[
            ("GET", |[part, _]| Endpoint::ShowToken(part)),
            ("DELETE", |[part, _]| Endpoint::RevokeToken(part)),
        ],
    ),
    ("/api/v1/tokens/{id}/rotate", &[("POST", |[part, _]| Endpoint::RotateToken(part))]),
    ("/healthz", &[("GET", |_| Endpoint::Health)]),
    ("/readyz", &[("GET", |_| Endpoint::Ready)]),
    ("/openapi.json", &[("GET", |_| Endpoint::OpenApi)]),
    ("/api/v1/claims", &[("GET", |_| Endpoint::ListClaims), ("POST", |_| Endpoint::CreateClaim)]),
    (
        "/api/v1/claims/{id}",
        &[
            ("GET", |[part, _]| Endpoint::ShowClaim(part)),
            ("PUT", |[part, _]| Endpoint::PutClaim(part)),
            ("DELETE", |[part, _]| Endpoint::DeleteClaim(part)),
        ],
    ),
    ("/api/v1/claims/{id}/renew", &[("POST", |[part, _]| Endpoint::RenewClaim(part))]),
    ("/api/v1/claims/{id}/revoke", &[("POST", |[part, _]| Endpoint::RevokeClaim(part))]),
    ("/api/v1/claims/{id}/deliveries", &[("GET", |[part, _]| Endpoint::ListDeliveries(part))]),
    (
        "/api/v1/claims/{id}/deliveries/{number}/retry",
        &[("POST", |[id, number]| Endpoint::RetryDelivery(id, number))],
    ),
    ("/api/v1/callbacks", &[("GET", |_| Endpoint::ListTargets)]),
    ("/api/v1/callbacks/{name}/test", &[("POST", |[part, _]| Endpoint::TestTarget(part))]),
    ("/api/v1/semaphores", &[("GET", |_| Endpoint::ListSemaphores)]),
    (
        "/api/v1/semaphores/{name}",
        &[
            ("GET", |[part, _]| Endpoint::ShowSemaphore(part)),
            ("PUT", |[part, _]| Endpoint::PutSemaphore(part)),
            ("PATCH", |[part, _]| Endpoint::PatchSemaphore(part)),
            ("DELETE", |[part, _]| Endpoint::DeleteSemaphore(part)),
        ],
    ),
    ("/api/v1/semaphores/{name}/claims", &[("POST", |[part, _]| Endpoint::CreateClaimOf(part))]),
];

/// Why no endpoint was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing is at this path.
    #[error("there is nothing at this path; GET /api/v1 lists the endpoints")]
    UnknownPath,
    /// The path exists, with other methods.
    #[error("this path does not have this method; it has {allow}")]
    MethodNotAllowed {
        /// The methods that it has, as the value of an `Allow` header: `GET, HEAD, PUT`.
        allow: String,
    },
}

/// The routes, ready to match.
#[derive(Debug)]
pub struct Routes {
    matcher: matchit::Router<&'static [(&'static str, Make)]>,
}

impl Routes {
    /// Builds the matcher.
    ///
    /// # Errors
    /// When two paths of the table contradict each other: a bug, which any test finds.
    pub fn new() -> Result<Routes, matchit::InsertError> {
        let mut matcher = matchit::Router::new();
        for (path, methods) in ROUTES {
            matcher.insert(*path, *methods)?;
        }
        Ok(Routes { matcher })
    }

    /// Finds the endpoint of a method (case-sensitive, RFC 9110 section 9.1) and a path without its query.
    ///
    /// A segment that is not UTF-8 after decoding gets replacement characters, which no grammar of the
    /// API allows.
    ///
    /// # Errors
    /// When there is no such path, or the path lacks the method.
    pub fn find(&self, method: &str, path: &str) -> Result<Endpoint, Error> {
        let found = self.matcher.at(path).map_err(|_| Error::UnknownPath)?;
        let wanted = if method == "HEAD" { "GET" } else { method };
        let Some((_, make)) = found.value.iter().find(|(method, _)| *method == wanted) else {
            return Err(Error::MethodNotAllowed { allow: allow(found.value) });
        };
        let mut varying = found.params.iter().map(|(_, segment)| segment);
        let mut next = || {
            let segment = varying.next().unwrap_or_default();
            percent_decode_str(segment).decode_utf8_lossy().into_owned()
        };
        Ok(make([next(), next()]))
    }

    /// Every method with its path template, `{id}` or `{name}` where a segment varies. Without HEAD.
    pub fn endpoints() -> impl Iterator<Item = (&'static str, &'static str)> {
        ROUTES
            .iter()
            .flat_map(|(path, methods)| methods.iter().map(move |(method, _)| (*method, *path)))
    }
}

fn allow(methods: &[(&str, Make)]) -> String {
    let mut names: Vec<&str> = Vec::with_capacity(methods.len() + 1);
    for (method, _) in methods {
        names.push(method);
        if *method == "GET" {
            names.push("HEAD");
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, path: &str) -> Result<Endpoint, Error> {
        Routes::new().unwrap().find(method, path)
    }

    #[test]
    fn every_endpoint_has_its_path() {
        let text = |t: &str| t.to_owned();
        let cases = [
            ("GET", "/api", Endpoint::Versions),
            ("GET", "/api/v1", Endpoint::Index),
            ("GET", "/api/v1/service", Endpoint::Service),
            ("GET", "/api/v1/backup", Endpoint::Backup),
            ("GET", "/api/v1/audit", Endpoint::Audit),
            ("GET", "/api/v1/token", Endpoint::OwnToken),
            ("GET", "/api/v1/tokens", Endpoint::ListTokens),
            ("POST", "/api/v1/tokens", Endpoint::CreateToken),
            ("GET", "/api/v1/tokens/a", Endpoint::ShowToken(text("a"))),
            ("DELETE", "/api/v1/tokens/a", Endpoint::RevokeToken(text("a"))),
            ("POST", "/api/v1/tokens/a/rotate", Endpoint::RotateToken(text("a"))),
            ("GET", "/healthz", Endpoint::Health),
            ("HEAD", "/healthz", Endpoint::Health),
            ("GET", "/readyz", Endpoint::Ready),
            ("GET", "/openapi.json", Endpoint::OpenApi),
            ("GET", "/api/v1/claims", Endpoint::ListClaims),
            ("POST", "/api/v1/claims", Endpoint::CreateClaim),
            ("PUT", "/api/v1/claims/a", Endpoint::PutClaim(text("a"))),
            ("GET", "/api/v1/claims/a.b~c", Endpoint::ShowClaim(text("a.b~c"))),
            ("HEAD", "/api/v1/claims/a", Endpoint::ShowClaim(text("a"))),
            ("DELETE", "/api/v1/claims/a", Endpoint::DeleteClaim(text("a"))),
            ("POST", "/api/v1/claims/a/renew", Endpoint::RenewClaim(text("a"))),
            ("POST", "/api/v1/claims/renew/revoke", Endpoint::RevokeClaim(text("renew"))),
            ("GET", "/api/v1/claims/a/deliveries", Endpoint::ListDeliveries(text("a"))),
            (
                "POST",
                "/api/v1/claims/a/deliveries/2/retry",
                Endpoint::RetryDelivery(text("a"), text("2")),
            ),
            ("GET", "/api/v1/callbacks", Endpoint::ListTargets),
            ("POST", "/api/v1/callbacks/ci/test", Endpoint::TestTarget(text("ci"))),
            ("GET", "/api/v1/semaphores", Endpoint::ListSemaphores),
            ("GET", "/api/v1/semaphores/s", Endpoint::ShowSemaphore(text("s"))),
            ("PUT", "/api/v1/semaphores/s", Endpoint::PutSemaphore(text("s"))),
            ("PATCH", "/api/v1/semaphores/s", Endpoint::PatchSemaphore(text("s"))),
            ("DELETE", "/api/v1/semaphores/s", Endpoint::DeleteSemaphore(text("s"))),
            ("POST", "/api/v1/semaphores/s/claims", Endpoint::CreateClaimOf(text("s"))),
        ];
        for (method, path, endpoint) in &cases {
            assert_eq!(find(method, path).as_ref(), Ok(endpoint), "{method} {path}");
        }
        let gets = cases.iter().filter(|(method, ..)| *method != "HEAD").count();
        assert_eq!(Routes::endpoints().count(), gets, "an endpoint without a case here");
    }

    #[test]
    fn segments_are_decoded_after_they_were_matched() {
        let cases = [
            ("/api/v1/claims/%61%2Db", "a-b"),
            ("/api/v1/claims/a%2Frenew", "a/renew"),
            ("/api/v1/claims/a+b", "a+b"),
            ("/api/v1/claims/%", "%"),
            ("/api/v1/claims/%zz", "%zz"),
            ("/api/v1/claims/%ff", "\u{fffd}"),
            ("/api/v1/claims/..", ".."),
            ("/api/v1/claims/%7Bid%7D", "{id}"),
        ];
        for (path, id) in cases {
            assert_eq!(find("GET", path), Ok(Endpoint::ShowClaim(id.to_owned())), "{path}");
        }
    }

    #[test]
    fn what_is_nearly_a_path_is_none() {
        for path in [
            "",
            "/",
            "/api/",
            "/API",
            "/api/v1/",
            "/api/v1/claims/",
            "//api/v1/claims",
            "/api/v1//claims",
            "/api/v1/claims//renew",
            "/api/v1/claims/a/",
            "/api/v1/claims/a/renew/",
            "/api/v1/claims/a/b",
            "/api%2Fv1",
            "/api/v1/cl%61ims",
            "/healthz/",
            "*",
            "api",
            "/api/v1/../v1/claims",
            "/api/v1/claims/a%2F/renew/x",
        ] {
            assert_eq!(find("GET", path), Err(Error::UnknownPath), "{path:?}");
        }
    }

    #[test]
    fn a_wrong_method_says_which_are_right() {
        let cases = [
            ("DELETE", "/healthz", "GET, HEAD"),
            ("GET", "/api/v1/claims/a/renew", "POST"),
            ("get", "/api/v1/claims/a", "GET, HEAD, PUT, DELETE"),
            ("POST", "/api/v1/claims/a", "GET, HEAD, PUT, DELETE"),
            ("OPTIONS", "/api/v1/claims", "GET, HEAD, POST"),
            ("HEAD", "/api/v1/semaphores/s/claims", "POST"),
        ];
        for (method, path, allow) in cases {
            let error = Error::MethodNotAllowed { allow: allow.to_owned() };
            assert_eq!(find(method, path), Err(error), "{method} {path}");
        }
    }
}
