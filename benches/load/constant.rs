//! A bare `tiny_http` that answers a constant: what its share of the cost is, with threads as the daemon
//! has them.

use std::{net::TcpListener, sync::Arc, thread};

use tiny_http::{Header, Method, Response, Server};

use super::engine::Failure;

/// As many as the daemon has workers.
const WORKERS: usize = 4;
/// As long as the daemon's answer to an acquire.
const BODY: &str = r#"{"id":"1884f0a7b5c2d3e1-127-104729","state":"held","permits":{"bench-open":1},"fences":{"bench-open":104729},"priority":0,"queued_at":"2026-11-24T05:00:00.000Z","granted_at":"2026-11-24T05:00:00.000Z","expires_at":"2026-11-24T06:00:00.000Z","expires_in_seconds":3600,"renew_after_seconds":1200,"waited_seconds":0,"ttl_seconds":3600,"queue_ttl_seconds":120,"offer_ttl_seconds":60,"revision":209458}"#;

/// Serves until the process is ended.
#[expect(clippy::print_stderr, reason = "how whoever starts it learns the address")]
pub(crate) fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    eprintln!("listening on {}", listener.local_addr()?);
    let server = Arc::new(Server::from_listener(listener, None)?);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let server = Arc::clone(&server);
            thread::spawn(move || work(&server))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    Ok(())
}

fn work(server: &Server) {
    let json = Header::from_bytes("Content-Type", "application/json").ok();
    while let Ok(mut request) = server.recv() {
        let mut body = Vec::new();
        let read = request.as_reader().read_to_end(&mut body);
        debug_assert!(read.is_ok(), "bodies of the load generator are short");
        // A client that has gone is none of its business.
        let _ = if request.method() == &Method::Delete {
            request.respond(Response::empty(204))
        } else {
            let mut response = Response::from_string(BODY);
            json.iter().for_each(|header| response.add_header(header.clone()));
            request.respond(response)
        };
    }
}
