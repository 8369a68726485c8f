//! Sending responses not before their commit, and not on the threads that handle requests or commit.

use std::{io, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use super::{
    crew::{Crew, LOOK_INTERVAL, StandIn},
    exchange::Exchange,
};
use crate::{
    http_interface::{Interface, Response},
    model::Revision,
};

enum Message {
    Send(Box<(Exchange, Response)>),
    Stop,
}

/// A few threads with one channel. Its length needs no bound of its own: every response in it belongs to a
/// connection that waits for it, and the connections are bounded.
pub(super) struct Responders {
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    threads: usize,
    pub(super) crew: Arc<Crew>,
}

impl Responders {
    /// Starts the threads.
    pub(super) fn start(threads: usize) -> io::Result<(Responders, Vec<JoinHandle<()>>)> {
        let (sender, receiver) = unbounded();
        let crew = Crew::new(threads);
        let handles = (0..threads)
            .map(|number| {
                let (receiver, crew) = (receiver.clone(), Arc::clone(&crew));
                std::thread::Builder::new()
                    .name(format!("respond-{number}"))
                    .spawn(move || run(&receiver, &crew))
            })
            .collect::<io::Result<_>>()?;
        Ok((Responders { sender, receiver, threads, crew }, handles))
    }

    /// Sends a response when `after` is committed: on this thread when it is already, else on one of the
    /// responders'. Returns without waiting for the commit.
    ///
    /// When the commit never comes, because the commit writer has failed, the exchange is dropped with what
    /// it waited for and the client sees no success.
    pub(super) fn deliver(
        &self,
        interface: &Interface,
        exchange: Exchange,
        response: Response,
        after: Revision,
    ) {
        if after == Revision(0) {
            exchange.respond(response);
            return;
        }
        // The closure may run inside the API's or the commit writer's locks, so it writes to no socket:
        // it puts the response where this thread finds it, or moves it on.
        let caller = std::thread::current().id();
        let committed = Arc::new(Mutex::new(None));
        let parcel = Box::new((exchange, response));
        let then = {
            let committed = Arc::clone(&committed);
            let sender = self.sender.clone();
            move || {
                if std::thread::current().id() == caller {
                    *committed.lock() = Some(parcel);
                } else {
                    // The other end is there as long as this sender is, or the process ends.
                    let _ = sender.send(Message::Send(parcel));
                }
            }
        };
        interface.after_commit(after, Box::new(then));
        let parcel = committed.lock().take();
        if let Some(parcel) = parcel {
            let (exchange, response) = *parcel;
            exchange.respond(response);
        }
    }

    /// Sends for a while, beside threads that are stuck.
    pub(super) fn work_as(&self, stand_in: &StandIn) {
        while stand_in.is_needed() {
            match self.receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(Message::Send(parcel)) => {
                    let (exchange, response) = *parcel;
                    stand_in.work(|| exchange.respond(response));
                }
                Ok(Message::Stop) => {
                    // It was for one of the others.
                    let _ = self.sender.send(Message::Stop);
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// Lets the threads end, after what is in the channel already.
    pub(super) fn stop(&self) {
        for _ in 0..self.threads {
            let _ = self.sender.send(Message::Stop);
        }
    }
}

fn run(receiver: &Receiver<Message>, crew: &Crew) {
    while let Ok(Message::Send(parcel)) = receiver.recv() {
        let (exchange, response) = *parcel;
        crew.work(|| exchange.respond(response));
    }
}
