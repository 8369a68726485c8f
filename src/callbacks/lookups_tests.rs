//! Lookups that are shared, that are silent, and that have no turn.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);

/// Answers when it is told to: with an address whose last part is the number of the question.
#[derive(Default)]
struct Slow {
    asked: AtomicUsize,
    answered: Mutex<bool>,
    changed: Condvar,
}

impl Slow {
    fn answer(&self) {
        *self.answered.lock() = true;
        self.changed.notify_all();
    }

    fn wait_for_questions(&self, count: usize) {
        let deadline = Instant::now() + LONG;
        while self.asked.load(SeqCst) < count {
            assert!(Instant::now() < deadline, "{count} questions were not asked");
            std::thread::yield_now();
        }
    }
}

impl Lookup for Slow {
    fn addresses(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let nth = self.asked.fetch_add(1, SeqCst) + 1;
        let mut answered = self.answered.lock();
        self.changed.wait_while_for(&mut answered, |answered| !*answered, LONG);
        Ok(vec![([127, 0, 0, u8::try_from(nth).unwrap()], port).into()])
    }
}

fn ask(lookups: &Lookups, host: &str, wait: Duration) -> Result<Vec<SocketAddr>, NotFound> {
    lookups.addresses(host, 80, Instant::now() + wait)
}

fn first() -> Result<Vec<SocketAddr>, NotFound> {
    Ok(vec![([127, 0, 0, 1], 80).into()])
}

fn ask_later(
    lookups: &Lookups,
    host: &'static str,
) -> std::thread::JoinHandle<Result<Vec<SocketAddr>, NotFound>> {
    let lookups = lookups.clone();
    std::thread::spawn(move || ask(&lookups, host, LONG))
}

#[test]
fn who_asks_for_the_same_name_shares_a_lookup_and_who_asks_later_has_a_new_one() {
    let slow = Arc::new(Slow::default());
    let lookups = Lookups::new(slow.clone());
    let asking: Vec<_> = (0..12).map(|_| ask_later(&lookups, "ci.example")).collect();
    slow.wait_for_questions(1);
    // Who comes meanwhile and cannot wait is told that the name servers are slow.
    let slow_servers = NotFound::Unknown("the name servers did not answer in time".into());
    assert_eq!(ask(&lookups, "ci.example", SHORT), Err(slow_servers));
    slow.answer();
    for asked in asking {
        let found = asked.join().unwrap();
        assert!(found.is_ok(), "{found:?}");
    }
    assert!(ask(&lookups, "ci.example", LONG).is_ok());
    let under_way = lookups.0.under_way.lock();
    assert_eq!((under_way.threads, under_way.names.len()), (0, 0));
}

#[test]
fn a_lookup_of_another_port_or_name_is_another() {
    let slow = Arc::new(Slow::default());
    let lookups = Lookups::new(slow.clone());
    let asking = [ask_later(&lookups, "a.example"), ask_later(&lookups, "b.example")];
    slow.wait_for_questions(2);
    slow.answer();
    asking.into_iter().for_each(|asked| assert!(asked.join().unwrap().is_ok()));
}

#[test]
fn past_the_bound_who_asks_waits_for_a_turn() {
    let slow = Arc::new(Slow::default());
    let lookups = Lookups::bounded(slow.clone(), 1);
    let a = ask_later(&lookups, "a.example");
    slow.wait_for_questions(1);
    let refused = NotFound::NotAsked("1 other lookups are not answered".into());
    assert_eq!(ask(&lookups, "b.example", SHORT), Err(refused));
    let b = ask_later(&lookups, "b.example");
    slow.answer();
    assert_eq!(a.join().unwrap(), first());
    assert_eq!(b.join().unwrap(), Ok(vec![([127, 0, 0, 2], 80).into()]));
}

#[test]
fn beside_a_silent_lookup_others_are_begun_at_most_four() {
    let name: Name = ("a.example".into(), 80);
    let slow = Arc::new(Slow::default());
    let lookups = Lookups::new(slow.clone());
    let start = Instant::now();
    let mut under_way = lookups.0.under_way.lock();
    for nth in 0..4 {
        let now = start + SILENT_AFTER * nth;
        assert!(under_way.may_begin(&name, now, LOOKUPS_MAX));
        lookups.begin(&mut under_way, &name, now).unwrap();
        assert!(!under_way.may_begin(&name, now + SHORT, LOOKUPS_MAX), "it may answer yet");
    }
    assert!(!under_way.may_begin(&name, start + LONG * 2, LOOKUPS_MAX));
    let other: Name = ("b.example".into(), 80);
    assert!(under_way.may_begin(&other, start, 5) && !under_way.may_begin(&other, start, 4));
    let (round, _) = under_way.names[&name].round.clone().unwrap();
    drop(under_way);
    slow.answer();
    // The first answer is everybody's, and the others end.
    let deadline = Instant::now() + LONG;
    let mut under_way = lookups.0.under_way.lock();
    while under_way.threads > 0 {
        assert!(!lookups.0.ended.wait_until(&mut under_way, deadline).timed_out());
    }
    assert!(round.answer.get().unwrap().is_ok() && under_way.names.is_empty());
}
