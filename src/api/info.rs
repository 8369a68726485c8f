//! The calls about the service itself.

use serde_json::json;

use super::{
    Answer, Api, Handled, Outcome, Reply, Step,
    access::Admitted,
    query::Query,
    wire::{Seconds, ServiceBody, Time},
};
use crate::model::Revision;

/// The OpenAPI 3.1 document of this API.
const OPENAPI: &str = include_str!("openapi.json");

impl Api {
    pub(super) fn versions(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let body = json!({ "versions": [{ "version": "v1", "path": "/api/v1" }] });
        Ok(Step::Done(Reply::json(Outcome::Ok, &body, Revision(0))))
    }

    pub(super) fn index(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let body = json!({
            "claims": "/api/v1/claims",
            "semaphores": "/api/v1/semaphores",
            "callbacks": "/api/v1/callbacks",
            "service": "/api/v1/service",
            "backup": "/api/v1/backup",
            "token": "/api/v1/token",
            "tokens": "/api/v1/tokens",
            "audit": "/api/v1/audit",
            "openapi": "/openapi.json",
        });
        Ok(Step::Done(Reply::json(Outcome::Ok, &body, Revision(0))))
    }

    pub(super) fn service_status(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let seen = self.service.status();
        let status = seen.what;
        let now = self.service.now().wall;
        let body = ServiceBody {
            name: "semaphored",
            version: env!("CARGO_PKG_VERSION"),
            state: if status.stopping { "stopping" } else { "running" },
            started_at: Time(status.started_at),
            uptime_seconds: Seconds(now.since(status.started_at)),
            semaphores: status.semaphores,
            claims: status.claims,
            waiting_requests: status.waiting_requests,
            waiting_requests_max: status.waiting_requests_max,
            storage: if status.storage_low { "low" } else { "ok" },
            revision: seen.revision.0,
        };
        Ok(Step::Done(Reply::json(Outcome::Ok, &body, seen.revision)))
    }

    /// Alive: the state's lock can be had, and everything before this call is written: the reply waits
    /// for the commit of what it saw, so a writer that hangs shows.
    pub(super) fn health(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let seen = self.service.status();
        Ok(Step::Done(Reply::json(Outcome::Ok, &json!({ "status": "ok" }), seen.revision)))
    }

    pub(super) fn ready(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let seen = self.service.status();
        let problem = if seen.what.stopping {
            Some("stopping")
        } else if seen.what.storage_low {
            Some("low on disk space")
        } else {
            None
        };
        let reply = match problem {
            None => Reply::json(Outcome::Ok, &json!({ "status": "ready" }), seen.revision),
            Some(reason) => {
                let body = json!({ "status": "not ready", "reason": reason });
                Reply::json(Outcome::NotReady, &body, seen.revision)
            }
        };
        Ok(Step::Done(reply))
    }

    pub(super) fn open_api(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let answer = Answer {
            revision: None,
            ..Answer::new(Outcome::Ok, Some(OPENAPI.into()), Revision(0))
        };
        Ok(Step::Done(Reply { result: Ok(answer), after: Revision(0) }))
    }
}
