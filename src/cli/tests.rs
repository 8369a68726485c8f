//! Tests of the command line, against a small set of options.

use super::*;

/// Does things.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(example = "tool thing --size=3")]
struct Options {
    /// how large it is
    #[argh(option, arg_name = "N")]
    size: Option<u32>,
    /// a part of it
    #[argh(option, short = 'p', arg_name = "NAME")]
    part: Vec<String>,
    /// say less
    #[argh(switch)]
    quiet: bool,
    /// the things
    #[argh(positional, arg_name = "thing")]
    things: Vec<String>,
}

fn read(line: &str) -> Result<Invocation<Options>, UsageError> {
    let program = Program { name: "tool", rest: Some("command") };
    parse(program, &line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
}

/// The options and the rest of a command line that is right.
fn check(line: &str, size: Option<u32>, part: &[&str], quiet: bool, things: &[&str]) {
    let Ok(Invocation::Do { options, .. }) = read(line) else { panic!("{line}") };
    let owned = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
    let expected = Options { size, part: owned(part), quiet, things: owned(things) };
    assert_eq!(options, expected, "{line}");
}

fn check_error(line: &str, message: &str) {
    let error = read(line).unwrap_err();
    assert!(error.message.contains(message), "{line}: {}", error.message);
    assert!(error.to_string().ends_with("Try `tool --help`."));
}

#[test]
fn values_are_attached_or_follow() {
    check("--size 3 a", Some(3), &[], false, &["a"]);
    check("a --size=3 b", Some(3), &[], false, &["a", "b"]);
    check("-p x -py -p=z --part w=1 --quiet", None, &["x", "y", "z", "w=1"], true, &[]);
    check("--part -x help", None, &["-x"], false, &["help"]);
}

#[test]
fn what_follows_the_separator_is_not_touched() {
    let Ok(Invocation::Do { options, rest }) = read("a -- --size=x -h -- b") else { panic!() };
    assert_eq!(options.things, ["a"]);
    assert_eq!(rest, ["--size=x", "-h", "--", "b"]);
    let program = Program { name: "tool", rest: None };
    let words = ["a", "--", "--size"].map(OsString::from);
    let Ok(Invocation::Do { options, rest }) = parse::<Options>(program, &words) else { panic!() };
    assert_eq!(options.things, ["a", "--size"]);
    assert!(rest.is_empty());
}

#[test]
fn help_and_version() {
    for line in ["-h", "a --help", "--quiet -h --nonsense"] {
        let Ok(Invocation::Help(text)) = read(line) else { panic!("{line}") };
        assert!(text.starts_with("Does things."), "{text}");
        assert!(text.contains("tool thing --size=3"), "{text}");
        assert!(text.contains("-p, --part <NAME>"), "{text}");
    }
    assert!(matches!(read("--version"), Ok(Invocation::Version)));
}

#[test]
fn errors_say_what_is_wrong() {
    check_error("--sise 3", "Did you mean --size?");
    check_error("-size 3", "Did you mean --size?");
    check_error("--frobnicate", "there is no option --frobnicate");
    check_error("--size", "--size needs a value");
    check_error("--quiet=yes", "--quiet takes no value");
    check_error("--size=x", "--size");
}
