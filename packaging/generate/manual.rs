//! The three manual pages. What options do is from the help texts, the rest from the documents.

use argh::{CommandInfoWithArgs, FlagInfoKind, Optionality};
use semaphored::{application, cli::Described, client};

use super::{
    commands::flags,
    markdown::{put, section},
    roff::{Page, bold, inline, italic},
};

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const CLIENT: &str = include_str!("../../docs/client.md");
const EXAMPLE: &str = include_str!("../example.toml");

const DAEMON_NAME: &str = "semaphored - hands out permits for limited resources over HTTP";
const CONFIGURATION_NAME: &str = "semaphored.toml - configuration of the semaphore service";
const CLIENT_NAME: &str = "semaphorectl - holds permits of the semaphore service for a job";

/// semaphored(8)
pub(super) fn daemon(date: &str) -> String {
    let described = application::described();
    let options = &described.groups[0];
    let mut page = Page::new("SEMAPHORED", 8, date, "System administration");
    name(&mut page, DAEMON_NAME);
    page.section("Synopsis");
    page.paragraph(&format!("**{}** [options]", described.program.name));
    page.section("Description");
    page.paragraph(&options.description.replace('\n', " "));
    page.paragraph(
        "The command line wins over the configuration, semaphored.toml(5). Requests come from semaphorectl(1) or any \
         other HTTP client; NGINX stands in front, for TLS and for everybody who is not on this machine.",
    );
    page.section("Options");
    put_options(&mut page, options);
    put_common(&mut page);
    let start_and_stop = section(OPERATIONS, "## Start and stop");
    page.section("Signals");
    put(&mut page, table(start_and_stop, "| signal |"));
    page.section("Exit status");
    put(&mut page, table(start_and_stop, "| exit code |"));
    page.section("Under systemd");
    put(&mut page, section(OPERATIONS, "## Under systemd"));
    page.section("Restore");
    put(&mut page, section(OPERATIONS, "### Restore"));
    page.section("Environment");
    put(&mut page, section(OPERATIONS, "## Environment"));
    page.section("Files");
    page.item(
        &italic("/etc/semaphored/semaphored.toml"),
        "The configuration, where `--config` names no other.",
    );
    page.item(
        &italic("/var/lib/semaphored"),
        "The database's directory, where nothing else is configured.",
    );
    put(&mut page, section(OPERATIONS, "## On disk"));
    put_examples(&mut page, options);
    see_also(
        &mut page,
        &["semaphorectl(1)", "semaphored.toml(5)", "systemd.service(5)", "systemd.socket(5)"],
    );
    page.source()
}

/// semaphored.toml(5)
pub(super) fn configuration(date: &str) -> String {
    let mut page = Page::new("SEMAPHORED.TOML", 5, date, "File formats");
    name(&mut page, CONFIGURATION_NAME);
    page.section("Synopsis");
    page.paragraph("/etc/semaphored/semaphored.toml");
    page.section("Description");
    page.paragraph(
        "What semaphored(8) runs with. `semaphored --check-config` says what is wrong in it, and SIGHUP has it read again.",
    );
    page.section("Options");
    put(&mut page, section(OPERATIONS, "## Configuration"));
    page.subsection("Limits");
    let bounds = section(OPERATIONS, "## Bounds");
    let (limits, _) = bounds.split_once("\nFixed bounds:").unwrap_or((bounds, ""));
    put(&mut page, limits);
    page.section("Files");
    page.item(
        &italic("/etc/semaphored/semaphored.toml"),
        "Read where `semaphored --config` names no other.",
    );
    page.section("Examples");
    page.example(EXAMPLE.lines());
    see_also(&mut page, &["semaphored(8)", "semaphorectl(1)"]);
    page.source()
}

/// semaphorectl(1)
pub(super) fn client(date: &str) -> String {
    let commands = client::described();
    let mut page = Page::new("SEMAPHORECTL", 1, date, "User commands");
    name(&mut page, CLIENT_NAME);
    page.section("Synopsis");
    page.paragraph("**semaphorectl run** [options] [NAME] **--** command [arguments]");
    page.paragraph("**semaphorectl** command [options] [arguments]");
    page.paragraph("**semaphorectl help** [command | exit-codes]");
    page.section("Description");
    page.paragraph(
        "Takes permits of the service semaphored(8), waits in its queue for them, and gives them back; shows who holds \
         and who waits; and is the admin's tool. A pipeline needs one line: `run` before the licensed tool.",
    );
    page.section("Commands");
    for command in &commands {
        put_command(&mut page, command);
    }
    page.section("Options");
    page.paragraph("Of all commands. A value follows its option, or is attached with `=`.");
    let service = commands.first().and_then(|command| command.groups.last());
    service.into_iter().for_each(|group| put_options(&mut page, group));
    put_common(&mut page);
    page.section("Exit status");
    put(&mut page, section(CLIENT, "## Exit codes"));
    page.section("Environment");
    put(&mut page, section(CLIENT, "## Environment"));
    page.section("Output");
    put(&mut page, section(CLIENT, "## Output"));
    page.section("Files");
    page.paragraph("None but those that options name.");
    page.section("Examples");
    put(&mut page, section(CLIENT, "## In a pipeline"));
    put(&mut page, section(CLIENT, "## In a script"));
    see_also(&mut page, &["semaphored(8)", "semaphored.toml(5)"]);
    page.source()
}

fn name(page: &mut Page, text: &str) {
    page.section("Name");
    page.paragraph(text);
}

/// A command: what it does, its arguments, its options but for those that all have, its notes and examples.
fn put_command(page: &mut Page, command: &Described) {
    let own = &command.groups[0];
    page.subsection(&command.program.name.replace("semaphorectl ", ""));
    page.paragraph(&own.description.replace('\n', " "));
    page.paragraph(&usage(command));
    for argument in own.positionals.iter().filter(|argument| !argument.hidden) {
        page.item(&italic(argument.name), argument.description);
    }
    for group in &command.groups[..command.groups.len() - 1] {
        put_options(page, group);
    }
    for note in own.notes {
        page.paragraph(note);
    }
    if !own.examples.is_empty() {
        page.example(own.examples.iter().flat_map(|example| example.lines()));
    }
}

fn usage(command: &Described) -> String {
    let mut text = format!("`{}` [options]", command.program.name);
    for argument in command.groups[0].positionals.iter().filter(|argument| !argument.hidden) {
        text.push_str(&match argument.optionality {
            Optionality::Required => format!(" {}", argument.name),
            _ => format!(" [{}]", argument.name),
        });
    }
    if let Some(rest) = command.program.rest {
        text.push_str(&format!(" **--** {rest}"));
    }
    text
}

fn put_options(page: &mut Page, group: &CommandInfoWithArgs) {
    for flag in flags(group) {
        let short = flag.short.map(|letter| bold(&format!("-{letter}")) + ", ");
        let value = match flag.kind {
            FlagInfoKind::Switch => String::new(),
            FlagInfoKind::Option { arg_name } => format!(" {}", italic(arg_name)),
        };
        let term = format!("{}{}{value}", short.unwrap_or_default(), bold(flag.long));
        page.item(&term, flag.description);
    }
}

/// What every command line takes.
fn put_common(page: &mut Page) {
    page.item(&inline("`-h`, `--help`"), "Says how it is used.");
    page.item(&inline("`--version`"), "Says which version it is.");
}

fn put_examples(page: &mut Page, options: &CommandInfoWithArgs) {
    page.section("Examples");
    page.example(options.examples.iter().copied());
}

fn see_also(page: &mut Page, pages: &[&str]) {
    page.section("See also");
    let pages = pages.iter().map(|page| {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        format!("**{name}**({section}")
    });
    page.paragraph(&pages.collect::<Vec<_>>().join(", "));
}

/// The table of a text that begins so.
fn table<'t>(text: &'t str, head: &str) -> &'t str {
    let at = text.find(&format!("\n{head}"));
    assert!(at.is_some(), "there is no table {head}");
    let table = &text[at.map_or(0, |at| at + 1)..];
    table.find("\n\n").map_or(table, |end| &table[..end])
}
