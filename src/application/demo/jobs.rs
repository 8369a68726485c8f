//! The demo's jobs: real `semaphorectl run` processes, each with a process group of its own.

use std::{
    io,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{COVERAGE, RIVIERA};

/// A job: how long its tool runs, in seconds, and whether it needs a licence of the add-on too.
pub(super) struct Job {
    pub(super) tool_seconds: &'static str,
    pub(super) with_coverage: bool,
}

const fn job(tool_seconds: &'static str) -> Job {
    Job { tool_seconds, with_coverage: false }
}

/// The jobs, in the order of their arrival.
pub(super) const JOBS: [Job; 12] = [
    job("3"),
    job("4"),
    job("2"),
    job("20"),
    job("5"),
    job("3"),
    job("4"),
    Job { tool_seconds: "3", with_coverage: true },
    job("2"),
    job("3"),
    job("4"),
    job("2"),
];

/// Index of the job that is killed while it holds its permit.
pub(super) const KILLED: usize = 3;
/// Its lease: after that its permit goes on.
pub(super) const KILLED_TTL: &str = "3s";

/// Starts jobs, and ends those that are left when it is dropped.
pub(super) struct Jobs {
    /// This program under the client's name, as which it is the client.
    client: PathBuf,
    url: String,
    children: Vec<Child>,
}

impl Jobs {
    pub(super) fn new(directory: &Path, url: String) -> io::Result<Jobs> {
        let client = directory.join("semaphorectl");
        symlink(std::env::current_exe()?, &client)?;
        Ok(Jobs { client, url, children: Vec::new() })
    }

    pub(super) fn started(&self) -> usize {
        self.children.len()
    }

    pub(super) fn start_next(&mut self) -> io::Result<()> {
        let index = self.children.len();
        let Some(job) = JOBS.get(index) else { return Ok(()) };
        let mut command = Command::new(&self.client);
        command.args(["run", "--quiet", "--url", &self.url, "--holder", &holder(index)]);
        command.args(["-p", &format!("{}=1", RIVIERA.0)]);
        if job.with_coverage {
            command.args(["-p", &format!("{}=1", COVERAGE.0)]);
        }
        if index == KILLED {
            command.args(["--ttl", KILLED_TTL]);
        }
        command
            .args(["--", "sleep", job.tool_seconds])
            .env_remove("SEMAPHORE_TOKEN")
            .env_remove("SEMAPHORE_CLAIM_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What the terminal sends is for the demo, which ends its jobs itself.
            .process_group(0);
        self.children.push(command.spawn()?);
        Ok(())
    }

    /// Kills a job and its tool: nobody is left to give the permit back.
    pub(super) fn kill(&mut self, index: usize) -> io::Result<()> {
        let Some(child) = self.children.get_mut(index) else { return Ok(()) };
        kill_process_group(Pid::from_child(child), Signal::KILL)?;
        child.wait()?;
        Ok(())
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        for child in &mut self.children {
            // A child that was waited for has no group any more, and its number may be another's.
            if matches!(child.try_wait(), Ok(None)) {
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
                let _ = child.wait();
            }
        }
    }
}

/// A job's holder, by which its claim is known: `job 1`.
fn holder(index: usize) -> String {
    format!("job {}", index + 1)
}

/// The index of the job with this holder.
pub(super) fn number(holder: &str) -> Option<usize> {
    holder.strip_prefix("job ")?.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_known_by_their_holders() {
        for index in [0, 11] {
            assert_eq!(number(&holder(index)), Some(index));
        }
        assert_eq!((number("job 0"), number("somebody")), (None, None));
    }
}
