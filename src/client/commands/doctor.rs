//! `semaphorectl doctor`: what is wrong between here and the service, and what to mend.
//!
//! The checks go from near to far, and end where the next one could not tell anything. Each line is written
//! as soon as it is known: the last but one takes as long as the longest wait.

use std::{ffi::OsString, time::Duration};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use super::checks::{self, Finding, Verdict};
use crate::{
    cli::{Program, exit, wrapped},
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs, ServiceArgs},
        environment::Environment,
        http::{Answer, Connection, WAIT_MAX},
        options::{PATIENCE_NONE, ServiceOptions},
        output,
        progress::{Reporter, human},
        service::ServiceAddress,
        terminal::{Terminal, Tone},
    },
};

/// Column at which it is told what was found.
const DETAIL_COLUMN: usize = 22;
/// How long the wait is that `--quick` tries.
const WAIT_QUICK: Duration = Duration::from_secs(5);

/// Checks the way to the service: configuration, name, connection, TLS, version, token, clock, how long a
/// wait survives the proxies on the way, and this shell's environment.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl doctor",
    example = "semaphorectl doctor --quick --url https://semaphores.example",
    note = "Each line says ok, warn or fail, and below what is not ok stands what to mend.",
    note = "Exit codes: 0 if nothing failed; else that of the first failure: 69 out of reach\n\
            or waits are cut, 77 not allowed, 78 configuration; 64 and 74 as in\n\
            `semaphorectl help exit-codes`."
)]
pub(super) struct DoctorArgs {
    /// try a wait of 5s only, not of 50s
    #[argh(switch)]
    quick: bool,
}

impl CommandLine for DoctorArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl doctor", rest: None };
}

/// `semaphorectl doctor` with its arguments.
///
/// # Errors
/// A wrong command line, output that cannot be written.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: DoctorArgs, shared, service, _| {
        let mut doctor = Doctor {
            json: shared.json,
            wait: if own.quick { WAIT_QUICK } else { WAIT_MAX },
            screen: Terminal::of_output(),
            reporter: Reporter::new(shared.json),
            url: None,
            findings: Vec::new(),
        };
        doctor.examine(service, &Environment::of_process())?;
        doctor.conclude()
    })
}

/// The examination.
struct Doctor {
    json: bool,
    wait: Duration,
    screen: Terminal,
    reporter: Reporter,
    url: Option<String>,
    findings: Vec<Finding>,
}

impl Doctor {
    fn examine(&mut self, args: &ServiceArgs, environment: &Environment) -> Result<(), Failure> {
        let options = match ServiceOptions::new(args, PATIENCE_NONE, environment) {
            Ok(options) => options,
            Err(failure) if failure.exit == exit::USAGE => return Err(failure),
            Err(failure) => return self.add(checks::wrong_configuration(failure)),
        };
        self.url = Some(options.address.base().to_owned());
        self.add(checks::configuration(args, &options.address, environment))?;
        let connection = Connection::new(&options.address);
        let (finding, answer) = checks::reach(&connection);
        self.add(finding)?;
        if let Some(answer) = answer {
            self.examine_service(&answer, &connection, &options.address)?;
        }
        self.add(checks::environment(&options.address, environment))
    }

    /// What answers, and how it is to work with. `answer` is what it says about the token.
    fn examine_service(
        &mut self,
        answer: &Answer,
        connection: &Connection,
        address: &ServiceAddress,
    ) -> Result<(), Failure> {
        let (authentication, is_let_in) = checks::authentication(answer, address);
        if !is_let_in {
            return self.add(authentication);
        }
        let answer = match checks::ask_about_itself(connection) {
            Ok(answer) => answer,
            Err(finding) => return self.add(finding),
        };
        let (findings, is_semaphored) = checks::service(&answer, address);
        for finding in findings {
            self.add(finding)?;
        }
        if !is_semaphored {
            return Ok(());
        }
        self.add(authentication)?;
        self.add(checks::clock(&answer))?;
        self.reporter.status(&format!("trying a wait of {}", human(self.wait)));
        let finding = checks::long_wait(connection, self.wait);
        self.reporter.clear_status();
        self.add(finding)
    }

    fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        if !self.json {
            let (word, tone) = match finding.verdict {
                Verdict::Ok => ("ok  ", Tone::Good),
                Verdict::Warn => ("warn", Tone::Warn),
                Verdict::Fail(_) => ("fail", Tone::Bad),
            };
            let word = self.screen.paint(word, tone);
            let room = self.screen.width().unwrap_or(usize::MAX);
            let detail = wrapped(&finding.detail, DETAIL_COLUMN, room);
            let mut text = format!("{word}  {:16}{}", finding.check, detail.trim_start());
            if let Some(mend) = &finding.mend {
                text.push_str(&wrapped(&format!("mend: {mend}"), DETAIL_COLUMN, room));
            }
            output::write(&text)?;
        }
        self.findings.push(finding);
        Ok(())
    }

    fn conclude(&self) -> Result<u8, Failure> {
        #[derive(Serialize)]
        struct Report<'a> {
            url: Option<&'a str>,
            version: &'static str,
            checks: &'a [Finding],
        }
        if self.json {
            let version = env!("CARGO_PKG_VERSION");
            let report = Report { url: self.url.as_deref(), version, checks: &self.findings };
            output::write_as_json(&report)?;
        }
        let failures = self.findings.iter().filter_map(|finding| match finding.verdict {
            Verdict::Fail(code) => Some(code),
            _ => None,
        });
        Ok(failures.into_iter().next().unwrap_or(exit::OK))
    }
}
