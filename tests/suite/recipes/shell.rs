//! `with-permit.sh` is run in each shell, against the real daemon.

use std::{
    fs,
    io::BufReader,
    process::{Child, ChildStderr, Command},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{Farm, Gate, recipe, root};
use crate::{
    access::wrong,
    client::{
        READY_THEN_WAIT, await_line, await_ready, closed_port, finish, outcome, send, start, text,
    },
    daemon::{Port, poll},
    fake_service::{FakeService, Reply},
};

const SHELLS: [&[&str]; 3] = [&["dash"], &["bash"], &["busybox", "sh"]];

impl Farm {
    /// `with-permit.sh` by a shell.
    fn script(&self, shell: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.job(shell[0]);
        command.args(&shell[1..]).arg(root().join("shell/with-permit.sh")).args(arguments);
        command
    }
}

/// Waits until it has told this.
fn await_told(child: &mut Child, expected: &str) -> BufReader<ChildStderr> {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    await_line(&mut lines, expected);
    lines
}

/// Runs something for each shell, beside each other.
fn in_each_shell(test: impl Fn(&[&str]) + Sync) {
    std::thread::scope(|scope| {
        for shell in SHELLS {
            scope.spawn(|| test(shell));
        }
    });
}

#[test]
fn a_free_permit_is_held_while_the_command_runs() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        let script = r#"cat; echo "$SEMAPHORE_CLAIM_ID $SEMAPHORE_FENCES"; exit 7"#;
        let mut job = farm.script(shell, &["-i", "job-1", "A", "--", "sh", "-c", script]);
        let (stdout, stderr) = outcome(&mut job, 7);
        assert_eq!(stdout, "job-1 {\"A\":1}\n", "{stderr}");
        assert_eq!(stderr, "with-permit: holds A (claim job-1)\n");
        assert_eq!(farm.end_of("job-1"), "released");
        farm.assert_free();
        // The id is used up.
        let (_, stderr) = outcome(&mut farm.script(shell, &["-i", "job-1", "A", "--", "true"]), 65);
        assert!(stderr.contains("each run of a job needs a new one"), "{stderr}");
        outcome(&mut farm.script(shell, &["A", "/nowhere/vsim"]), 127);
        farm.assert_free();
    });
}

#[test]
fn it_waits_behind_a_holder() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        farm.hold();
        let mut job = start(&mut farm.script(shell, &["A", "echo", "ran"]));
        let since = Instant::now();
        let _more = await_told(&mut job, "waiting for A: position 1");
        // Not only when the long request is over, of 50 s.
        assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
        farm.wait_for(1, 1);
        farm.let_go();
        let output = finish(job);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"ran\n"[..]));
        farm.assert_free();
    });
}

#[test]
fn a_signal_while_it_waits_leaves_the_queue() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        farm.hold();
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
            let job = start(&mut farm.script(shell, &["A", "true"]));
            farm.wait_for(1, 1);
            send(&job, signal);
            assert_eq!(finish(job).status.code(), Some(code), "{shell:?} {signal:?}");
            farm.wait_for(0, 1);
        }
    });
}

#[test]
fn a_signal_while_the_command_runs_ends_it_and_releases() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        for signal in [Signal::TERM, Signal::INT] {
            let mut job = start(&mut farm.script(shell, &[&["A", "--"], READY_THEN_WAIT].concat()));
            await_ready(&mut job);
            farm.wait_for(0, 1);
            send(&job, signal);
            // The command's own way to end.
            assert_eq!(finish(job).status.code(), Some(7), "{shell:?} {signal:?}");
            farm.assert_free();
        }
    });
}

#[test]
fn the_service_restarts_meanwhile() {
    in_each_shell(|shell| {
        let mut farm = Farm::start();
        let gate = Gate::new();
        let script = format!("echo ready; cat '{}'; exit 5", gate.path().display());
        // A short lease: the renewals of the holder are what it lives by.
        let arguments = ["-t", "2", "-i", "first", "A", "sh", "-c", &script];
        let mut first = start(&mut farm.script(shell, &arguments));
        await_ready(&mut first);
        let second = start(&mut farm.script(shell, &["-i", "second", "A", "echo", "second"]));
        farm.wait_for(1, 1);
        farm.guarded.daemon.kill();
        farm.guarded.daemon.start_again(Port::Same);
        // The same holder and the same queue, and the lease is renewed twice.
        for _ in 0..2 {
            let before = farm.guarded.look("/api/v1/claims/first")["expires_at"].clone();
            poll("a renewal", || {
                let now = farm.guarded.look("/api/v1/claims/first");
                assert_eq!(now["state"], "held", "{now}");
                (now["expires_at"] != before).then_some(())
            });
        }
        farm.wait_for(1, 1);
        drop(gate.reader());
        assert_eq!(finish(first).status.code(), Some(5));
        assert_eq!(finish(second).stdout, b"second\n");
        assert_eq!(farm.end_of("first"), "released");
    });
}

#[test]
fn refusals_are_told_and_have_their_exit_codes() {
    let farm = Farm::start();
    farm.hold();
    let (_socket, closed) = closed_port();
    let config = [("SEMAPHORE_TOKEN", wrong(&farm.token.token)), ("SEMAPHORE_URL", closed)];
    let none = [("SEMAPHORE_TOKEN", String::new()), ("SEMAPHORE_URL", "licences".to_owned())];
    type Case<'a> = (&'a [&'a str], Option<&'a (&'a str, String)>, i32, &'a str);
    let cases: [Case; 13] = [
        (&["A", "true"], Some(&config[0]), 77, "does not know this token"),
        (&["-u", "1", "A", "true"], Some(&config[1]), 69, "gave up after 1s"),
        (&["A", "true"], Some(&none[0]), 77, "SEMAPHORE_TOKEN_FILE"),
        (&["A", "true"], Some(&none[1]), 78, "SEMAPHORE_URL is no URL"),
        (&["B", "true"], None, 65, "there is no semaphore `B`"),
        (&["A=2", "true"], None, 65, "2 permits of `A` can never be had"),
        (&["-w", "1", "A", "true"], None, 75, "no permit of A in time"),
        (&["-c", "nobody", "true"], None, 65, "nobody"),
        (&["A"], None, 64, "there is no command"),
        (&["A=x", "true"], None, 64, "no number of permits"),
        (&["-t", "soon", "A", "true"], None, 64, "no duration"),
        (&["-i", "a/b", "A", "true"], None, 64, "no claim's id"),
        (&["-q", "A", "true"], None, 64, "usage"),
    ];
    for shell in SHELLS {
        for (arguments, variable, code, expected) in cases {
            let mut job = farm.script(shell, arguments);
            if let Some((name, value)) = variable {
                job.env(name, value);
            }
            let (_, stderr) = outcome(&mut job, code);
            assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        }
    }
    farm.wait_for(0, 1);
}

/// A newline is part of no token, id, name, number or duration: not at the end, where the shell would take it off, either.
/// Behind one, what curl is told by its standard input would begin another option.
#[test]
fn newlines_are_refused() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        let token = &farm.token.token;
        for token in [format!("{token}\n"), format!("{token}\nverbose"), format!("\n{token}")] {
            let mut job = farm.script(shell, &["A", "echo", "ran"]);
            let (stdout, stderr) = outcome(job.env("SEMAPHORE_TOKEN", token), 78);
            assert!(stdout.is_empty() && stderr.contains("it is one line"), "{stderr}");
        }
        let cases: [(&[&str], &str); 8] = [
            (&["-i", "job-1\n", "A"], "no claim's id"),
            (&["-i", "job\n1", "A"], "no claim's id"),
            (&["-i", "\njob-1", "A"], "no claim's id"),
            (&["-c", "job-1\n"], "no claim's id"),
            (&["A\n"], "no semaphore's name"),
            (&["A=1\n"], "no number of permits"),
            (&["-t", "5m\n", "A"], "no duration"),
            (&["-u", "1\n", "A"], "no number of seconds"),
        ];
        for (arguments, expected) in cases {
            let mut job = farm.script(shell, &[arguments, &["--", "echo", "ran"]].concat());
            let (stdout, stderr) = outcome(&mut job, 64);
            assert!(stdout.is_empty() && stderr.contains(expected), "{arguments:?}: {stderr}");
        }
        assert!(farm.claims().is_empty());
    });
}

#[test]
fn no_list_of_processes_has_the_token() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        farm.hold();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{}\n", farm.token.token)).unwrap();
        let mut job = farm.script(shell, &["-i", "secret", "A", "true"]);
        let job = start(job.env_remove("SEMAPHORE_TOKEN").env("SEMAPHORE_TOKEN_FILE", file.path()));
        farm.wait_for(1, 1);
        // Its curl waits now.
        let lines = command_lines();
        assert!(lines.iter().any(|line| line.contains("curl") && line.contains("/claims/secret")));
        assert!(lines.iter().all(|line| !line.contains(&farm.token.token)));
        farm.let_go();
        assert_eq!(finish(job).status.code(), Some(0));
    });
}

/// The command lines of all processes.
fn command_lines() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.filter_map(|path| fs::read(path.join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

#[test]
fn a_lease_that_is_lost_is_told_or_ends_the_command() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        for (option, id, code) in [(&["-x"][..], "stopped", 79), (&[], "warned", 7)] {
            let arguments = [option, &["-t", "3", "-i", id, "A"], READY_THEN_WAIT].concat();
            let mut job = start(&mut farm.script(shell, &arguments));
            await_ready(&mut job);
            farm.guarded.admin(
                200,
                "POST",
                &format!("/api/v1/claims/{id}/revoke"),
                "{\"reason\": \"stuck\"}",
            );
            let _more = await_told(&mut job, &format!("an admin revoked claim {id}"));
            if option.is_empty() {
                send(&job, Signal::TERM);
            }
            assert_eq!(finish(job).status.code(), Some(code), "{shell:?}");
        }
    });
}

#[test]
fn max_hold_ends_the_command_on_time() {
    in_each_shell(|shell| {
        let farm = Farm::with("[semaphores.A]\ncapacity = 1\nmax_hold = \"3s\"");
        let begun = Instant::now();
        let arguments = [&["-x", "-t", "60", "-i", "long", "A"], READY_THEN_WAIT].concat();
        let mut job = start(&mut farm.script(shell, &arguments));
        await_ready(&mut job);
        let output = finish(job);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(80), "{stderr}");
        assert!(stderr.contains("max_hold"), "{stderr}");
        // Not a third of the lease later.
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        poll("the end of the claim", || farm.claims().is_empty().then_some(()));
    });
}

/// What something before the service answers.
fn page(status: u16) -> Reply {
    Reply::json(status, "<html>moved</html>")
}

/// `with-permit.sh` with a service that a test scripts.
fn to(service: &FakeService, farm: &Farm, shell: &[&str], arguments: &[&str]) -> Command {
    let mut job = farm.script(shell, arguments);
    job.env("SEMAPHORE_URL", service.url());
    job
}

#[test]
fn a_claim_of_a_put_that_was_not_answered_is_given_back_after_a_refusal() {
    type Answer = fn() -> Reply;
    let no_answer: Answer = || Reply::HangUp;
    let cases: [(Answer, Answer, i32, usize); 7] = [
        (no_answer, || page(404), 70, 1),
        (no_answer, || page(410), 70, 1),
        (no_answer, || Reply::problem(401, "token-invalid", "no"), 77, 1),
        // There is one, and it is another's; and none that could be ours.
        (|| page(504), || Reply::problem(409, "claim-differs", "it is another"), 65, 0),
        (|| page(504), || Reply::problem(404, "unknown-semaphore", "no"), 65, 0),
        (no_answer, || Reply::ended("wait_timeout"), 75, 0),
        (|| page(404), || page(404), 70, 0),
    ];
    let farm = Farm::start();
    in_each_shell(|shell| {
        for (at, (first, second, exit, deletes)) in cases.into_iter().enumerate() {
            let service = FakeService::start(move |call| match (call.method.as_str(), call.nth) {
                ("PUT", 0) => first(),
                ("PUT", _) => second(),
                _ => Reply::no_content(),
            });
            let (_, stderr) = outcome(&mut to(&service, &farm, shell, &["A", "true"]), exit);
            assert_eq!(service.calls_of("DELETE").len(), deletes, "{shell:?} case {at}: {stderr}");
        }
        // Another job may hold a claim under an id that somebody chose.
        let service = FakeService::start(move |call| match (call.method.as_str(), call.nth) {
            ("PUT", 0) => Reply::problem(503, "stopping", "in a moment"),
            ("PUT", _) => page(404),
            _ => Reply::no_content(),
        });
        outcome(&mut to(&service, &farm, shell, &["-i", "pipe-7", "A", "true"]), 70);
        assert_eq!(service.calls_of("DELETE").len(), 0, "{shell:?}");
    });
}

#[test]
fn only_the_service_can_say_that_a_claim_is_over() {
    let farm = Farm::start();
    in_each_shell(|shell| {
        for status in [404, 410, 200] {
            let service = FakeService::start(move |call| match (call.method.as_str(), call.nth) {
                ("PUT", _) => Reply::held(201, 300.0, 100.0),
                (_, 0) => page(status),
                _ => Reply::no_content(),
            });
            outcome(&mut to(&service, &farm, shell, &["A", "true"]), 0);
            assert_eq!(service.calls_of("DELETE").len(), 2, "{shell:?} {status}");
        }
        // By its own clock, and then it is given back.
        let service = FakeService::start(move |call| match call.method.as_str() {
            "PUT" => Reply::held(201, 2.0, 1.0),
            "POST" => page(410),
            _ => Reply::no_content(),
        });
        let arguments = [&["-x", "A"], READY_THEN_WAIT].concat();
        let (_, stderr) = outcome(&mut to(&service, &farm, shell, &arguments), 80);
        assert!(stderr.contains("could not be renewed"), "{stderr}");
        assert_eq!(service.calls_of("DELETE").len(), 1, "{stderr}");
    });
}

#[test]
fn a_script_that_is_killed_holds_on_while_its_command_lives() {
    in_each_shell(|shell| {
        let farm = Farm::start();
        let gate = Gate::new();
        let script = format!("echo ready; cat '{}'", gate.path().display());
        let arguments = ["-t", "3", "-i", "orphan", "A", "sh", "-c", &script];
        let mut job = start(&mut farm.script(shell, &arguments));
        await_ready(&mut job);
        let before = farm.guarded.look("/api/v1/claims/orphan")["expires_at"].clone();
        send(&job, Signal::KILL);
        job.wait().unwrap();
        poll("a renewal after it", || {
            (farm.guarded.look("/api/v1/claims/orphan")["expires_at"] != before).then_some(())
        });
        drop(gate.reader());
        assert_eq!(farm.end_of("orphan"), "released");
    });
}

/// The claim of a callback: it is made by the page's own curl, and taken over by one job.
#[test]
fn the_claim_of_a_callback_is_taken_over_once() {
    // Nothing listens there: the claim is offered, and the calls fail.
    let config = "[semaphores]\nA = 1\nFlexLM-Riviera = 1\n[callbacks.targets.hook]\npreset = \"generic\"\n\
        url = \"http://127.0.0.1:9/hook\"\nallow_cidrs = [\"127.0.0.0/8\"]\n\
        secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    in_each_shell(|shell| {
        let mut farm = Farm::with(config);
        farm.token = farm.guarded.token("claim", "");
        let page = super::blocks("shell.md", "sh");
        let curl = page.iter().find(|block| block.contains("\"callback\"")).unwrap();
        let mut ask = farm.job(shell[0]);
        ask.args(&shell[1..]).args(["-c", curl]).env("JOB_ID", "412");
        let (stdout, _) = outcome(&mut ask, 0);
        assert!(stdout.contains("\"id\":\"412-sim\""), "{stdout}");
        let mut job = farm.script(shell, &[&["-c", "412-sim"], READY_THEN_WAIT].concat());
        let mut first = start(job.env("SEMAPHORE_CLAIM_ID", "412-sim"));
        await_ready(&mut first);
        assert_eq!(farm.guarded.look("/api/v1/claims/412-sim")["state"], "held");
        let (stdout, stderr) =
            outcome(&mut farm.script(shell, &["-c", "412-sim", "echo", "ran"]), 65);
        assert!(stdout.is_empty() && stderr.contains("refused: HTTP 409"), "{stderr}");
        assert_eq!(farm.guarded.look("/api/v1/claims/412-sim")["state"], "held");
        send(&first, Signal::TERM);
        let output = finish(first);
        assert_eq!(output.status.code(), Some(7));
        assert!(!text(&output.stderr).contains("warning"));
        assert_eq!(farm.end_of("412-sim"), "released");
    });
}

/// The commands of the page work as they stand there.
#[test]
fn the_page_is_right() {
    let farm = Farm::with("[semaphores]\nA = 1\nFlexLM-Riviera = 1\nFlexLM-Coverage = 2");
    let token = farm.guarded.token("claim", r#", "semaphores": ["FlexLM-*"]"#);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("semaphore.token");
    fs::write(&file, &token.token).unwrap();
    let here = directory.path().join("with-permit.sh");
    fs::copy(root().join("shell/with-permit.sh"), here).unwrap();
    let page = super::blocks("shell.md", "sh");
    let page = page[0].replace("https://licences.example", &farm.guarded.daemon.url());
    let page = page.replace("/etc/ci/semaphore.token", file.to_str().unwrap());
    let page = page.replace("vsim -do run.do", "echo one").replace("./coverage.sh", "echo two");
    let mut job = farm.job("sh");
    job.args(["-ec", &page]).current_dir(&directory).env_remove("SEMAPHORE_TOKEN");
    let (stdout, _) = outcome(&mut job, 0);
    assert_eq!(stdout, "one\ntwo\n");
    assert!(recipe("shell/with-permit.sh").starts_with("#!/bin/sh\n"));
}
