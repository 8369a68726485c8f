//! Notices when the client of a request that blocks is gone.
//!
//! tiny_http says nothing of a client that hangs up while its request waits: it reads the end of the
//! connection on the connection's own thread, and keeps it open for the answer. The kernel knows: the
//! connection is not ESTABLISHED any more. It is CLOSE_WAIT when the client closed its end or was killed, and
//! gone when it was reset or did not answer keepalive probes. NGINX closes its connection to us when its
//! client goes (`proxy_ignore_client_abort off`).
//!
//! It is asked twice over. For one connection, when the API wants to know before it grants; and once a
//! second, while anybody blocks, for all who do, so that who is gone is passed over early and its thread,
//! slot and descriptors are free again. A look-up takes some microseconds, a list of all connections of our
//! port 10 to 20 ms (the kernel walks its whole table), so many are found by the list and few one by one.
//! What is missing in the list is looked up before it counts as gone: the list is not of one moment.
//!
//! Where the kernel does not answer (netlink is forbidden by a sandbox) everybody counts as present.
//!
//! Locking: the table's mutex is held for a pass over it, the one of the netlink socket for a question. A
//! question may be asked under the API's locks, so nothing here calls the API while it holds its own.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::sock_diag::{ESTABLISHED, LISTEN, SockDiag};
use crate::api::Peer;

/// Time between two looks at all connections. Who is gone is noticed within this and the time of a look.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Up to so many are looked up one by one.
const LOOK_UPS_MAX: usize = 1_000;

/// The clients of the requests that block.
pub(super) struct Presence {
    listens_on: SocketAddr,
    /// For questions about one connection.
    kernel: Mutex<SockDiag>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By the client's address.
    blocked: HashMap<SocketAddr, Caller>,
    stopped: bool,
}

/// The client of a request.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) peer: Arc<Peer>,
    pair: Arc<Pair>,
}

/// A connection by its addresses. Ours is not known at first where we listen on all.
struct Pair {
    local: OnceLock<IpAddr>,
    remote: SocketAddr,
}

/// Keeps a client in the table.
pub(super) struct Watched<'a> {
    presence: &'a Presence,
    caller: Caller,
}

impl Presence {
    /// Starts the thread that looks once a second; `None` where the kernel does not answer. To be called
    /// once the address is listened on.
    pub(super) fn start(
        listens_on: SocketAddr,
    ) -> io::Result<Option<(Arc<Presence>, JoinHandle<()>)>> {
        let opened = open(listens_on).and_then(|first| Ok((first, open(listens_on)?)));
        let (kernel, for_thread) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                log::warn!(
                    "the kernel does not say which clients have hung up ({error}): a permit that goes to \
                     one of them is lost for its lease's time; allow AF_NETLINK in the service's sandbox"
                );
                return Ok(None);
            }
        };
        let presence = Arc::new(Presence {
            listens_on,
            kernel: Mutex::new(kernel),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("presence".to_owned()).spawn({
            let presence = Arc::clone(&presence);
            move || presence.run(for_thread)
        })?;
        Ok(Some((presence, thread)))
    }

    /// The client at an address; `None` where it cannot be known whether it is there.
    pub(super) fn caller(self: &Arc<Presence>, remote: SocketAddr) -> Option<Caller> {
        if is_link_local(remote.ip()) {
            // Its connections belong to an interface, and have to be asked for with it.
            return None;
        }
        let remote = SocketAddr::new(remote.ip(), remote.port());
        let local = OnceLock::new();
        if !self.listens_on.ip().is_unspecified() {
            let _ = local.set(self.listens_on.ip());
        }
        let pair = Arc::new(Pair { local, remote });
        let (presence, of_peer) = (Arc::clone(self), Arc::clone(&pair));
        let peer = Peer::new(move || presence.is_gone(&mut presence.kernel.lock(), &of_peer));
        Some(Caller { peer: Arc::new(peer), pair })
    }

    /// Tells the client's peer when it is gone, as long as the answer lives.
    pub(super) fn watch(&self, caller: Caller) -> Watched<'_> {
        let mut state = self.state.lock();
        let first = state.blocked.is_empty();
        state.blocked.insert(caller.pair.remote, caller.clone());
        drop(state);
        if first {
            self.changed.notify_one();
        }
        Watched { presence: self, caller }
    }

    /// Lets the thread end.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    fn run(&self, mut kernel: SockDiag) {
        while self.wait_for_work() {
            match self.suspects(&mut kernel) {
                Ok(callers) => {
                    for caller in callers {
                        if self.is_gone_for_sure(&mut kernel, &caller.pair) {
                            caller.peer.hang_up();
                        }
                    }
                }
                // The next look makes up for it.
                Err(error) => log::debug!("the connections cannot be looked at: {error}"),
            }
        }
    }

    /// Waits until somebody blocks, and then for the interval; `false` when it is time to end.
    fn wait_for_work(&self) -> bool {
        let mut state = self.state.lock();
        while state.blocked.is_empty() && !state.stopped {
            self.changed.wait(&mut state);
        }
        let mut timed_out = false;
        while !timed_out && !state.stopped {
            timed_out = self.changed.wait_for(&mut state, CHECK_INTERVAL).timed_out();
        }
        !state.stopped
    }

    /// Those who have to be looked up.
    fn suspects(&self, kernel: &mut SockDiag) -> io::Result<Vec<Caller>> {
        {
            let state = self.state.lock();
            let mut callers = state.blocked.values();
            if callers.len() <= LOOK_UPS_MAX && callers.all(|c| c.pair.local.get().is_some()) {
                return Ok(state.blocked.values().cloned().collect());
            }
        }
        self.missing(kernel)
    }

    /// Those whose connections are not in the list of all. Learns our addresses from it.
    fn missing(&self, kernel: &mut SockDiag) -> io::Result<Vec<Caller>> {
        let mut there: HashSet<SocketAddr> = HashSet::new();
        let mut local_of: HashMap<SocketAddr, IpAddr> = HashMap::new();
        kernel.list(ESTABLISHED, self.listens_on, 0, |seen| {
            there.insert(seen.remote);
            if self.listens_on.ip().is_unspecified() {
                local_of.insert(seen.remote, seen.local.ip());
            }
        })?;
        let state = self.state.lock();
        for (remote, local) in local_of {
            if let Some(caller) = state.blocked.get(&remote) {
                let _ = caller.pair.local.set(local);
            }
        }
        let missing = state.blocked.iter().filter(|(remote, _)| !there.contains(remote));
        Ok(missing.map(|(_, caller)| caller.clone()).collect())
    }

    /// Whether a connection is known to be gone. Takes microseconds.
    fn is_gone(&self, kernel: &mut SockDiag, pair: &Pair) -> bool {
        let Some(local) = pair.local.get() else { return false };
        let local = SocketAddr::new(*local, self.listens_on.port());
        match kernel.state(local, pair.remote) {
            Ok(state) => state != Some(ESTABLISHED),
            Err(error) => {
                log::debug!("the connection of {} cannot be looked up: {error}", pair.remote);
                false
            }
        }
    }

    /// The same also where our address is not known, which takes longer.
    fn is_gone_for_sure(&self, kernel: &mut SockDiag, pair: &Pair) -> bool {
        if pair.local.get().is_some() {
            return self.is_gone(kernel, pair);
        }
        let mut there = false;
        let port = pair.remote.port();
        let listed = kernel.list(ESTABLISHED, self.listens_on, port, |seen| {
            there |= seen.remote == pair.remote;
        });
        listed.is_ok() && !there
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let mut state = self.presence.state.lock();
        let remote = self.caller.pair.remote;
        // After a reset another connection may have the address by now.
        let is_own = |caller: &Caller| Arc::ptr_eq(&caller.peer, &self.caller.peer);
        if state.blocked.get(&remote).is_some_and(is_own) {
            state.blocked.remove(&remote);
        }
    }
}

/// A socket for questions that answers: it knows who listens on our own address.
fn open(listens_on: SocketAddr) -> io::Result<SockDiag> {
    let mut kernel = SockDiag::open()?;
    let nobody = SocketAddr::new(listens_on.ip(), 0);
    match kernel.state(listens_on, nobody)? {
        Some(LISTEN) => Ok(kernel),
        state => Err(io::Error::other(format!("it does not know our own socket: {state:?}"))),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Connections of clients that listen to `listen`: of so many, each second one is closed and noticed.
    fn notices(listen: &str, clients: usize) {
        let listener = TcpListener::bind(listen).unwrap();
        let address = listener.local_addr().unwrap();
        let (presence, thread) = Presence::start(address).unwrap().unwrap();
        let (sender, noticed) = mpsc::channel();
        let mut ends = Vec::new();
        for number in 0..clients {
            let client = TcpStream::connect(("127.0.0.1", address.port())).unwrap();
            let (server, remote) = listener.accept().unwrap();
            let caller = presence.caller(remote).unwrap();
            let sender = sender.clone();
            caller.peer.when_gone(Box::new(move || sender.send(number).unwrap()));
            ends.push((client, server, presence.watch(caller)));
        }
        let (closed, open): (Vec<_>, Vec<_>) =
            ends.into_iter().enumerate().partition(|(number, _)| number % 2 == 1);
        let closed: Vec<_> =
            closed.into_iter().map(|(number, (_, server, w))| (number, server, w)).collect();
        let mut numbers: Vec<_> =
            closed.iter().map(|_| noticed.recv_timeout(DEADLINE).unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, Vec::from_iter(closed.iter().map(|(number, ..)| *number)));
        for (_, (_, _, watched)) in &open {
            let (kernel, pair) = (&presence.kernel, &watched.caller.pair);
            assert!(pair.local.get().is_some());
            assert!(!presence.is_gone(&mut kernel.lock(), pair));
        }
        drop((closed, open));
        assert!(presence.state.lock().blocked.is_empty());
        presence.stop();
        thread.join().unwrap();
    }

    #[test]
    fn who_closes_is_noticed_and_nobody_else() {
        notices("127.0.0.1:0", 20);
        notices("0.0.0.0:0", 20);
        if TcpListener::bind("[::1]:0").is_ok() {
            notices("[::]:0", 20);
        }
    }

    #[test]
    fn many_are_found_by_the_list() {
        notices("127.0.0.1:0", LOOK_UPS_MAX + 10);
    }
}
