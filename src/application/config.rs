//! The configuration file: TOML, every key known, errors with their line.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use ipnet::IpNet;

use super::{
    args::Args,
    auth::{Auth, Mode},
    callbacks::Callbacks,
};
use crate::{
    callbacks::Settings,
    model::{Note, SemaphoreName, SemaphoreSettings, SemaphoreState, bounds, parse_duration},
};

/// Read when the command line names no other file, if it exists.
pub(crate) const CONFIG_DEFAULT: &str = "/etc/semaphored/semaphored.toml";
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7420);
/// The proxies that are believed where the file names none.
const TRUSTED_DEFAULT: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
const DATA_DIR_DEFAULT: &str = "/var/lib/semaphored";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    /// The file is not TOML, or not ours. The text has the line.
    #[error("the configuration {path} is wrong: {what}")]
    Wrong { path: String, what: String },
    /// The address is not loopback and nobody said that this is meant.
    #[error(
        "{listen} can be reached from other machines: put NGINX in front and listen on 127.0.0.1, or \
         set `expose = true` in the configuration file if this is meant"
    )]
    Exposed { listen: SocketAddr },
    /// Anybody who reaches the address may do everything.
    #[error(
        "`auth.mode = \"off\"` lets everybody who reaches {listen} do everything: it is for a loopback address alone; \
         remove it, and make tokens with `semaphorectl token create`"
    )]
    Open { listen: SocketAddr },
}

/// What the daemon runs with: the file, with the command line over it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    /// Whether other machines may reach it.
    pub(crate) expose: bool,
    pub(crate) data_dir: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) limits: Limits,
    /// The declared semaphores, in the order of their names.
    pub(crate) semaphores: BTreeMap<SemaphoreName, SemaphoreSettings>,
    /// Whom the service may call; checked by [`super::callbacks::registry`].
    pub(crate) callbacks: Settings,
    /// Who needs a token, and tokens of the file; read by [`Auth::tokens`].
    pub(crate) auth: Auth,
    /// Proxies that are believed where a client is.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The file, for messages about what is read later.
    pub(crate) path: PathBuf,
}

/// When a change counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Synced to disk before the answer.
    #[default]
    Full,
    /// Handed to the operating system: survives a kill, not a power cut.
    Os,
}

/// Bounds that an admin may set: `[limits]`. Each has a row in docs/operations.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Requests that block at the same time; by default what the machine's limits carry.
    pub(crate) waiting_requests_max: Option<usize>,
    /// Connections above which no request may block; by default what the machine's limits carry.
    pub(crate) connections_max: Option<usize>,
    /// Longest time that a request blocks.
    pub(crate) wait_max: Option<Seconds>,
    pub(crate) semaphores_max: Option<usize>,
    pub(crate) claims_max: Option<usize>,
    /// Bytes of the texts of live claims.
    pub(crate) claims_text_bytes_max: Option<usize>,
    pub(crate) queue_claims_max: Option<usize>,
    pub(crate) waiting_sets_max: Option<usize>,
    pub(crate) ended_ids_max: Option<usize>,
    /// How long ended claims are kept in the history.
    pub(crate) history_days: Option<u32>,
    /// How long the audit log is kept.
    pub(crate) audit_days: Option<u32>,
    pub(crate) tokens_max: Option<usize>,
    /// Requests of one token in a second, over ten seconds.
    pub(crate) token_requests_per_second_max: Option<usize>,
    /// Free bytes under the data directory below which no new claims are taken.
    pub(crate) free_bytes_min: Option<u64>,
    pub(crate) worker_threads: Option<usize>,
    pub(crate) responder_threads: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    #[serde(default)]
    expose: bool,
    data_dir: Option<PathBuf>,
    #[serde(default)]
    durability: Durability,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    semaphores: BTreeMap<Name, Declared>,
    #[serde(default)]
    callbacks: Callbacks,
    #[serde(default)]
    auth: Auth,
    trusted_proxies: Option<Vec<Network>>,
}

/// An address, or a network in CIDR notation.
#[derive(Debug)]
struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Network).map_err(|_| {
            serde::de::Error::custom(format!(
                "a trusted proxy must be an address or a network such as \"10.0.0.0/8\", not {text:?}"
            ))
        })
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(SemaphoreName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        SemaphoreName::new(&text).map(Name).map_err(|invalid| {
            serde::de::Error::custom(format!(
                "a semaphore's name must be {}, not {text:?}",
                invalid.allowed
            ))
        })
    }
}

/// A declared semaphore: `NAME = 5`, or a table of settings.
#[derive(Debug)]
struct Declared(SemaphoreSettings);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    capacity: u32,
    default_ttl: Option<Seconds>,
    max_ttl: Option<Seconds>,
    max_hold: Option<Seconds>,
    queue_ttl: Option<Seconds>,
    offer_ttl: Option<Seconds>,
    wait_timeout: Option<Seconds>,
    cooldown: Option<Seconds>,
    description: Option<String>,
}

impl<'de> Deserialize<'de> for Declared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Declared, D::Error> {
        struct NumberOrTable;

        impl<'de> Visitor<'de> for NumberOrTable {
            type Value = Declared;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of permits, or a table with `capacity`")
            }

            fn visit_i64<E: serde::de::Error>(self, capacity: i64) -> Result<Declared, E> {
                let capacity = u32::try_from(capacity).unwrap_or(0);
                checked(SemaphoreSettings::with_capacity(capacity))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Declared, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.settings()
            }
        }

        deserializer.deserialize_any(NumberOrTable)
    }
}

fn checked<E: serde::de::Error>(settings: SemaphoreSettings) -> Result<Declared, E> {
    settings.check().map_err(E::custom)?;
    Ok(Declared(settings))
}

impl Table {
    fn settings<E: serde::de::Error>(self) -> Result<Declared, E> {
        let defaults = SemaphoreSettings::with_capacity(self.capacity);
        let or = |given: Option<Seconds>, default| given.map_or(default, |seconds| seconds.0);
        let description = match self.description {
            Some(text) => Some(Note::new(&text).map_err(|invalid| {
                E::custom(format!("`description` must be {}", invalid.allowed))
            })?),
            None => None,
        };
        let max_ttl = or(self.max_ttl, defaults.max_ttl);
        checked(SemaphoreSettings {
            capacity: self.capacity,
            // Of a new one: draining is what an admin does at run time, and it stays as he has it.
            state: SemaphoreState::Open,
            default_ttl: or(self.default_ttl, defaults.default_ttl.min(max_ttl)),
            max_ttl,
            max_hold: self.max_hold.map(|seconds| seconds.0),
            queue_ttl: or(self.queue_ttl, defaults.queue_ttl),
            offer_ttl: self.offer_ttl.map(|seconds| seconds.0),
            wait_timeout: self.wait_timeout.map(|seconds| seconds.0),
            cooldown: or(self.cooldown, defaults.cooldown),
            description,
        })
    }
}

/// A duration in the file: whole seconds, or a text such as `"5m"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds or a text such as \"90s\", \"5m\" or \"2h\"")
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Seconds, E> {
                let invalid = || E::custom("a duration must not be negative");
                let seconds = u64::try_from(seconds).map_err(|_| invalid())?;
                Ok(Seconds(Duration::from_secs(seconds)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Seconds, E> {
                parse_duration(text).map(Seconds).map_err(|invalid| {
                    E::custom(format!("a duration must be {}, not {text:?}", invalid.allowed))
                })
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
}

impl Config {
    /// Reads the file that the command line names (or the default one, if it exists) and lays the command
    /// line over it.
    pub(crate) fn load(args: &Args) -> Result<Config, Error> {
        let default = Path::new(CONFIG_DEFAULT);
        let path = match &args.config {
            Some(path) => Some(path.as_path()),
            None => default.exists().then_some(default),
        };
        let Some(path) = path else {
            return Config::of(File::default(), Settings::default(), PathBuf::new(), args);
        };
        let shown = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) => return Err(Error::Unreadable { path: shown, source }),
        };
        Config::parse(&text, &shown, args)
    }

    /// The keys that differ in `new` and can only change with a restart.
    pub(crate) fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
        let differences = [
            ("listen", self.listen != new.listen),
            ("data_dir", self.data_dir != new.data_dir),
            ("durability", self.durability != new.durability),
            ("limits", self.limits != new.limits),
            ("auth.mode", self.auth.mode != new.auth.mode),
            ("auth.anonymous", self.auth.needs() != new.auth.needs()),
            ("trusted_proxies", self.trusted_proxies != new.trusted_proxies),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    pub(super) fn parse(text: &str, path: &str, args: &Args) -> Result<Config, Error> {
        let wrong = |what: String| Error::Wrong { path: path.to_owned(), what };
        let mut file: File =
            toml::from_str(text).map_err(|error| wrong(in_one_line(text, &error)))?;
        check_limits(&file.limits).map_err(wrong)?;
        let callbacks = std::mem::take(&mut file.callbacks).settings(text, path).map_err(wrong)?;
        Config::of(file, callbacks, path.into(), args)
    }

    fn of(file: File, callbacks: Settings, path: PathBuf, args: &Args) -> Result<Config, Error> {
        let listen = args.listen.or(file.listen).unwrap_or(LISTEN_DEFAULT);
        let trusted_proxies = match file.trusted_proxies {
            Some(networks) => networks.into_iter().map(|network| network.0).collect(),
            // NGINX on the same machine.
            None => TRUSTED_DEFAULT.map(IpNet::from).into(),
        };
        let data_dir = args.data_dir.clone().or(file.data_dir);
        let semaphores =
            file.semaphores.into_iter().map(|(Name(name), Declared(s))| (name, s)).collect();
        let config = Config {
            listen,
            expose: file.expose,
            data_dir: data_dir.unwrap_or_else(|| DATA_DIR_DEFAULT.into()),
            durability: file.durability,
            limits: file.limits,
            semaphores,
            callbacks,
            auth: file.auth,
            trusted_proxies,
            path,
        };
        config.check_reach(listen)?;
        Ok(config)
    }

    /// Whether the daemon may listen there.
    pub(super) fn check_reach(&self, listen: SocketAddr) -> Result<(), Error> {
        match (listen.ip().is_loopback(), self.auth.mode) {
            (true, _) => Ok(()),
            (false, _) if !self.expose => Err(Error::Exposed { listen }),
            (false, Mode::Off) => Err(Error::Open { listen }),
            (false, _) => Ok(()),
        }
    }
}

/// Where the error is and what: one line, for it may go to a log.
fn in_one_line(text: &str, error: &toml::de::Error) -> String {
    let what = error.message().replace('\n', ", ");
    match error.span().and_then(|span| line_of(text, span.start)) {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// The line of a byte, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> Option<usize> {
    text.get(..at).map(|before| before.matches('\n').count() + 1)
}

fn check_limits(limits: &Limits) -> Result<(), String> {
    let counts = [
        ("waiting_requests_max", limits.waiting_requests_max, 0, 100_000),
        ("connections_max", limits.connections_max, 0, 1_000_000),
        ("semaphores_max", limits.semaphores_max, 1, 100_000),
        ("claims_max", limits.claims_max, 1, 10_000_000),
        ("claims_text_bytes_max", limits.claims_text_bytes_max, 1 << 10, 16 << 30),
        ("queue_claims_max", limits.queue_claims_max, 0, 10_000_000),
        ("waiting_sets_max", limits.waiting_sets_max, 1, 100_000),
        ("ended_ids_max", limits.ended_ids_max, 1, 10_000_000),
        ("tokens_max", limits.tokens_max, 1, 1_000_000),
        ("token_requests_per_second_max", limits.token_requests_per_second_max, 1, 1_000_000),
        ("worker_threads", limits.worker_threads, 1, 256),
        ("responder_threads", limits.responder_threads, 1, 256),
    ];
    for (name, value, min, max) in counts {
        if value.is_some_and(|value| !(min..=max).contains(&value)) {
            return Err(format!("`limits.{name}` must be from {min} to {max}"));
        }
    }
    for (name, days) in [("history_days", limits.history_days), ("audit_days", limits.audit_days)] {
        if days.is_some_and(|days| !(1..=3_650).contains(&days)) {
            return Err(format!("`limits.{name}` must be from 1 to 3650"));
        }
    }
    let longest = bounds::QUEUE_TTL_MAX;
    let wait_in_range = |wait: Seconds| (Duration::from_secs(1)..=longest).contains(&wait.0);
    if limits.wait_max.is_some_and(|wait| !wait_in_range(wait)) {
        return Err("`limits.wait_max` must be from 1s to 24h".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_args() -> Args {
        Args {
            config: None,
            listen: None,
            data_dir: None,
            check_config: false,
            restore: None,
            new_admin_token: false,
            demo: false,
        }
    }

    fn error(text: &str) -> String {
        Config::parse(text, "x.toml", &no_args()).expect_err("it should be refused").to_string()
    }

    #[test]
    fn the_example_of_the_documentation() {
        let text = r#"
            listen = "127.0.0.1:7420"
            data_dir = "/var/lib/semaphored"
            durability = "full"
            [semaphores]
            FlexLM-Riviera = 5
            [semaphores.FlexLM-Coverage]
            capacity = 2
            cooldown = "60s"
            default_ttl = "5m"
        "#;
        let config = Config::parse(text, "x.toml", &no_args()).unwrap();
        let coverage = &config.semaphores[&SemaphoreName::new("FlexLM-Coverage").unwrap()];
        assert_eq!((coverage.capacity, coverage.cooldown), (2, Duration::from_secs(60)));
        let riviera = &config.semaphores[&SemaphoreName::new("FlexLM-Riviera").unwrap()];
        assert_eq!(*riviera, SemaphoreSettings::with_capacity(5));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, expected) in [
            ("lisen = 5", "line 1"),
            ("\n[semaphores]\nA = 0", "line 3"),
            ("[semaphores]\nA = 0", "to grant nothing, drain"),
            ("[semaphores]\n\"A B\" = 1", "name must be"),
            ("[semaphores.A]\ncapacity = 1\ncool = 1", "unknown field `cool`"),
            ("[semaphores.A]\ncapacity = 1\ncooldown = \"2d\"", "line 3"),
            ("[semaphores.A]\ncapacity = 1\ncooldown = \"2h\"", "`cooldown` must be from"),
            ("[limits]\nworker_threads = 0", "worker_threads` must be from 1"),
            ("listen = \"0.0.0.0:7420\"", "expose = true"),
            (
                "listen = \"0.0.0.0:1\"\nexpose = true\n[auth]\nmode = \"off\"",
                "for a loopback address alone",
            ),
            ("trusted_proxies = [\"proxy\"]", "an address or a network"),
            ("[semaphores]\nA = 1\nA = 2", "line 3: duplicate key"),
            ("[semaphores]\nA = \"5", "line 2"),
        ] {
            let error = error(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn the_command_line_wins() {
        let args = Args {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            data_dir: Some("/tmp/x".into()),
            ..no_args()
        };
        let config =
            Config::parse("listen = \"127.0.0.1:9\"\ndata_dir = \"/y\"", "x", &args).unwrap();
        assert_eq!((config.listen.port(), config.data_dir), (0, PathBuf::from("/tmp/x")));
    }
}
