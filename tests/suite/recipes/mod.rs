//! The recipes for CI systems are what those systems take, and do what their pages say: the scripts in them are run, with
//! the environment that the system would give them, against the real daemon.

mod buildkite;
mod github;
mod gitlab;
mod jenkins;
mod scripts;
mod shell;
mod structure;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::{Mode, OFlags};
use yaml_rust2::{Yaml, YamlLoader, yaml::Hash};

use crate::{
    access::{Guarded, Made},
    client::semaphorectl,
    daemon::poll,
};

/// The directory of the recipes.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes")
}

/// The text of a recipe.
fn recipe(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The blocks of one language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let (text, fence) = (recipe(page), format!("\n```{language}\n"));
    let found = text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    found.map(str::to_owned).collect()
}

/// One document of YAML.
fn yaml(text: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(text).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

fn members(value: &Yaml) -> Hash {
    value.as_hash().cloned().unwrap_or_default()
}

/// A text, or the lines of a list of texts.
fn lines(value: &Yaml) -> String {
    match value {
        Yaml::String(text) => text.clone(),
        Yaml::Array(items) => items.iter().map(lines).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// A named pipe that a command reads, and so goes on when the test wants it to.
struct Gate {
    directory: tempfile::TempDir,
}

impl Gate {
    fn new() -> Gate {
        let gate = Gate { directory: tempfile::tempdir().unwrap() };
        assert!(Command::new("mkfifo").arg(gate.path()).status().unwrap().success());
        gate
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("gate")
    }

    /// Waits until the command has opened it to read, which ends when what is returned is dropped.
    fn reader(&self) -> fs::File {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        poll("the reader of the gate", || {
            rustix::fs::open(self.path(), flags, Mode::empty()).ok().map(fs::File::from)
        })
    }
}

/// A daemon with one permit of `A`, and a token of a farm.
struct Farm {
    guarded: Guarded,
    token: Made,
}

impl Farm {
    fn start() -> Farm {
        Farm::with("[semaphores]\nA = 1")
    }

    fn with(config: &str) -> Farm {
        let guarded = Guarded::start(config);
        let token = guarded.token("claim", r#", "semaphores": ["A"]"#);
        Farm { guarded, token }
    }

    /// A program with the environment of a job of this farm, and `semaphorectl` on its path.
    fn job(&self, program: &str) -> Command {
        let client = semaphorectl(&[]);
        let directory = Path::new(client.get_program()).parent().unwrap().to_owned();
        let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(program);
        for (name, _) in client.get_envs() {
            command.env_remove(name);
        }
        command.env("PATH", path).env("SEMAPHORE_URL", self.guarded.daemon.url());
        command.env("SEMAPHORE_TOKEN", &self.token.token);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Has the permit held by somebody else.
    fn hold(&self) {
        let body = r#"{"permits": {"A": 1}, "ttl": "1h"}"#;
        self.guarded.admin(201, "PUT", "/api/v1/claims/holder", body);
    }

    fn let_go(&self) {
        self.guarded.admin(204, "DELETE", "/api/v1/claims/holder", "");
    }

    /// Waits until so many claims wait and so many permits are held.
    fn wait_for(&self, waiting: u64, in_use: u64) {
        poll(&format!("{waiting} waiting, {in_use} held"), || {
            let semaphore = self.guarded.look("/api/v1/semaphores/A");
            let is = |member: &str| semaphore[member].as_u64().unwrap();
            (is("waiting") == waiting && is("in_use") == in_use).then_some(())
        });
    }

    /// Nothing waits and nothing is held, just now.
    fn assert_free(&self) {
        let semaphore = self.guarded.look("/api/v1/semaphores/A");
        assert_eq!(
            (&semaphore["waiting"], &semaphore["in_use"]),
            (&0.into(), &0.into()),
            "{semaphore}"
        );
    }

    /// How a claim has ended.
    fn end_of(&self, id: &str) -> String {
        let claim = poll(&format!("the end of {id}"), || {
            let claim = self.guarded.look(&format!("/api/v1/claims/{id}"));
            (claim["state"] == "ended").then_some(claim)
        });
        claim["reason"].as_str().unwrap().to_owned()
    }

    /// The ids of the claims that live.
    fn claims(&self) -> Vec<String> {
        let page = self.guarded.look("/api/v1/claims");
        let ids = page["claims"].as_array().unwrap().iter();
        ids.map(|claim| claim["id"].as_str().unwrap().to_owned()).collect()
    }
}
