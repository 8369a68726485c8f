//! Tests of the options of `run`.

use super::*;
use crate::cli::{self, Invocation, exit};

type Given = (RunArgs, ClaimArgs, ServiceArgs);

fn read(
    line: &str,
    variables: &'static [(&'static str, &'static str)],
) -> Result<(Box<ClaimOptions>, Job), Failure> {
    match read_any(line, variables)? {
        (Wanted::New(claim), job) => Ok((claim, job)),
        other => panic!("{other:?}"),
    }
}

fn read_any(
    line: &str,
    variables: &'static [(&'static str, &'static str)],
) -> Result<(Wanted, Job), Failure> {
    let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
    let program = Program { name: RUN, rest: Some("command") };
    match cli::parse_groups::<RunArgs, ClaimArgs, ServiceArgs>(program, &words)? {
        Invocation::Do { options, rest } => {
            let (own, claim, service): Given = options;
            let environment = Environment::of_test(variables, "me@here:7");
            check(&own, &claim, &service, rest, &environment)
        }
        _ => panic!("{line}"),
    }
}

fn permits(claim: &ClaimOptions) -> Vec<(String, u32)> {
    claim.permits.iter().map(|(name, weight)| (name.to_string(), weight)).collect()
}

#[test]
fn a_missing_separator_is_explained() {
    let words = ["lic", "vsim", "-do", "run.do"].map(OsString::from);
    let expected = "put `--` between the semaphore and the command: \
                    semaphorectl run lic -- vsim -do run.do";
    assert_eq!(check_separator(&words).unwrap_err().message, expected);
}

#[test]
fn the_one_line_in_a_pipeline() {
    let (options, job) = read("lic -- vsim -do run.do", &[]).unwrap();
    assert_eq!(permits(&options), [("lic".to_owned(), 1)]);
    assert_eq!(job.command, ["vsim", "-do", "run.do"]);
    assert_eq!(options.holder.unwrap().as_str(), "me@here:7");
    assert_eq!(options.service.address.base(), "http://127.0.0.1:7420");
    assert_eq!(options.service.unreachable_timeout, Duration::from_secs(300));
    assert_eq!(job.on_lost, OnLost::Warn);
    assert!(options.queue && options.outer_claim.is_none() && options.ttl.is_none());
}

#[test]
fn every_option_is_understood() {
    let (options, job) = read(
        "-p b=2 --permits=a --wait-timeout 2h --ttl 90 --priority -5 --holder me --label k=v=w \
         --no-queue --on-lost=terminate --kill-after 3 --url https://x/sem/ --unreachable-timeout 1s --quiet -- c",
        &[("SEMAPHORE_URL", "http://other"), ("SEMAPHORE_CLAIM_ID", "outer")],
    )
    .unwrap();
    assert_eq!(permits(&options), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert_eq!(options.wait_timeout, Some(Duration::from_secs(7_200)));
    assert_eq!(options.ttl, Some(Duration::from_secs(90)));
    assert_eq!(options.priority.unwrap().value(), -5);
    assert_eq!(options.labels.iter().collect::<Vec<_>>(), [("k", "v=w")]);
    assert_eq!(options.service.address.base(), "https://x/sem");
    assert_eq!(options.outer_claim.as_deref(), Some("outer"));
    assert_eq!(job.on_lost, OnLost::Terminate);
    assert_eq!(job.kill_after, Duration::from_secs(3));
    assert!(!options.queue && options.quiet);
}

#[test]
fn the_holder_is_the_job_where_there_is_one() {
    let holder = |variables| read("a -- c", variables).unwrap().0.holder.unwrap().to_string();
    assert_eq!(holder(&[("CI_JOB_URL", "https://gitlab/j/1")]), "https://gitlab/j/1");
    assert_eq!(holder(&[("BUILD_URL", "https://jenkins/1/")]), "https://jenkins/1/");
    let github = &[
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "o/r"),
        ("GITHUB_RUN_ID", "5"),
    ];
    assert_eq!(holder(github), "https://github.com/o/r/actions/runs/5");
    assert_eq!(holder(&github[..2]), "me@here:7");
}

#[test]
fn what_is_wrong_is_said() {
    for (line, expected) in [
        ("-- c", "name a semaphore"),
        ("a", "no command to run"),
        ("a --", "no command to run"),
        ("a a -- c", "a is named twice; once is -p a=N"),
        ("a/b -- c", "the name of a semaphore must be"),
        ("-p a=x -- c", "must be a whole number"),
        ("a --ttl 5x -- c", "--ttl must be a number of seconds"),
        ("a --ttl 0 -- c", "--ttl must be at least 1s"),
        ("a --label x -- c", "KEY=VALUE"),
        ("a --priority 101 -- c", "--priority must be"),
        ("a --priority high -- c", "--priority must be"),
        ("a --on-lost kill -- c", "warn or terminate"),
        ("a --url ftp://x -- c", "--url must be"),
    ] {
        let failure = read(line, &[]).unwrap_err();
        assert!(failure.message.contains(expected), "{line}: {}", failure.message);
        assert_eq!(failure.exit, exit::USAGE, "{line}");
    }
    let failure = read("a -- c", &[("SEMAPHORE_URL", "x")]).unwrap_err();
    assert_eq!(failure.exit, exit::CONFIGURATION);
    let failure = read("a -- c", &[("SEMAPHORE_TOKEN", "a b")]).unwrap_err();
    assert_eq!(failure.exit, exit::CONFIGURATION);
    let failure = read("a --token-file /does/not/exist -- c", &[]).unwrap_err();
    assert_eq!(failure.exit, exit::CONFIGURATION);
}

#[test]
fn a_claim_is_taken_over_as_it_is() {
    let line = "--claim c1 --on-lost terminate --unreachable-timeout 7 --quiet -- sim a";
    let (wanted, job) = read_any(line, &[("SEMAPHORE_CLAIM_ID", "c1")]).unwrap();
    let Wanted::Existing(claim) = wanted else { panic!("{wanted:?}") };
    assert_eq!(claim.service.unreachable_timeout, Duration::from_secs(7));
    assert!(claim.quiet && job.on_lost == OnLost::Terminate);
    assert_eq!(job.command, ["sim", "a"]);
    let order = Order::adopt(claim);
    assert_eq!(order.id.as_str(), "c1");
    assert_eq!(order.outer_claim, None, "it is the same claim, which nobody holds yet");
    let (wanted, _) = read_any("--claim c1 -- sim", &[("SEMAPHORE_CLAIM_ID", "c0")]).unwrap();
    let Wanted::Existing(claim) = wanted else { panic!("{wanted:?}") };
    assert_eq!(Order::adopt(claim).outer_claim.as_deref(), Some("c0"));
}

#[test]
fn what_was_said_when_the_claim_was_made_is_not_said_again() {
    for (options, expected) in [
        ("lic", "leave \"lic\" out"),
        ("-p lic=2", "--permits goes with"),
        ("--wait-timeout 5", "--wait-timeout goes with"),
        ("--no-queue", "--no-queue goes with"),
        ("--priority 1", "--priority goes with"),
        ("--holder me", "--holder goes with"),
        ("--label a=b", "--label goes with"),
        ("--ttl 5m", "--ttl goes with"),
    ] {
        let failure = read_any(&format!("--claim c1 {options} -- sim"), &[]).unwrap_err();
        assert_eq!(failure.exit, exit::USAGE, "{options}");
        assert!(failure.message.contains(expected), "{options}: {}", failure.message);
    }
    for (line, expected) in [
        ("--claim= -- sim", "does this job get SEMAPHORE_CLAIM_ID"),
        ("--claim a/b -- sim", "the id of a claim must be"),
        ("--claim c1", "semaphorectl run --claim c1 -- command"),
        ("--claim c1 sim", "put `--` before it"),
    ] {
        let failure = read_any(line, &[]).unwrap_err();
        assert!(failure.message.contains(expected), "{line}: {}", failure.message);
    }
}
