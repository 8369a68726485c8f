//! `[callbacks]` of the configuration file: targets, and what clients' own URLs may be.
//!
//! Here the file's form is checked: keys, types, one place for each secret. What the values mean is checked by
//! [`Registry::new`], with the line of the table that they are in. `--check-config` does both, and reads the
//! secrets.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize,
    de::{Deserializer, Error as _},
};
use toml::Spanned;

use super::config::{Config, Error, Seconds, line_of};
use crate::{
    callbacks::{
        AllowSettings, Registry, SecretSettings, Settings, TIMEOUT_DEFAULT, TargetSettings,
        secret::{Secret, SecretSource},
    },
    model::TargetName,
};

/// Set by systemd for a unit with `LoadCredential=`.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// `[callbacks]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Callbacks {
    timeout: Option<Seconds>,
    #[serde(default)]
    targets: BTreeMap<Name, Spanned<TargetTable>>,
    #[serde(default)]
    allow: Vec<Spanned<AllowTable>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name(TargetName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        TargetName::new(&text).map(Name).map_err(|invalid| {
            serde::de::Error::custom(format!(
                "a callback target's name must be {}, not {text:?}",
                invalid.allowed
            ))
        })
    }
}

/// A text that no error shows, and whatever stands in its place neither.
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hidden, D::Error> {
        match toml::Value::deserialize(deserializer) {
            Ok(toml::Value::String(text)) => Ok(Hidden(text)),
            // An error of the parser may show a number.
            Ok(_) | Err(_) => Err(D::Error::custom("this must be a text in quotes")),
        }
    }
}

/// A secret as it stands in the file.
#[derive(Debug)]
struct SecretText(Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
        let Hidden(text) = Hidden::deserialize(deserializer)?;
        Secret::new(&text).map(SecretText).map_err(D::Error::custom)
    }
}

/// The value of a header: a text, or where it is.
#[derive(Debug)]
struct HeaderValue(SecretSource);

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HeaderValue, D::Error> {
        let wrong = || {
            D::Error::custom(
                "a header's value must be a text in quotes, { file = \"/a/path\" } or { credential = \"name\" }",
            )
        };
        // As for a secret: an error of the parser may show a number.
        let source = match toml::Value::deserialize(deserializer).map_err(|_| wrong())? {
            toml::Value::String(text) => {
                SecretSource::Inline(Secret::new(&text).map_err(D::Error::custom)?)
            }
            toml::Value::Table(table) => {
                let mut members = table.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                match (members.next(), members.next()) {
                    (Some(("file", Some(path))), None) if path.starts_with('/') => {
                        SecretSource::File(path.into())
                    }
                    (Some(("credential", Some(name))), None) => {
                        SecretSource::Credential(name.to_owned())
                    }
                    _ => return Err(wrong()),
                }
            }
            _ => return Err(wrong()),
        };
        Ok(HeaderValue(source))
    }
}

/// `[callbacks.targets.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetTable {
    preset: String,
    url: String,
    secret: Option<SecretText>,
    secret_file: Option<Hidden>,
    secret_credential: Option<Hidden>,
    previous_secret: Option<SecretText>,
    previous_secret_file: Option<Hidden>,
    previous_secret_credential: Option<Hidden>,
    user: Option<String>,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, HeaderValue>,
    template: Option<String>,
    #[serde(default)]
    vars: BTreeMap<String, String>,
    allow_vars: Option<Vec<String>>,
    #[serde(default)]
    allow_cidrs: Vec<String>,
}

/// `[[callbacks.allow]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowTable {
    url: Option<String>,
    host: Option<String>,
    secret: Option<SecretText>,
    secret_file: Option<Hidden>,
    secret_credential: Option<Hidden>,
    previous_secret: Option<SecretText>,
    previous_secret_file: Option<Hidden>,
    previous_secret_credential: Option<Hidden>,
    #[serde(default)]
    allow_cidrs: Vec<String>,
}

impl Callbacks {
    /// What the file says, with the lines of its tables. The error has its line too.
    pub(super) fn settings(self, text: &str, path: &str) -> Result<Settings, String> {
        let mut targets = BTreeMap::new();
        for (Name(name), table) in self.targets {
            let line = line(text, &table.span());
            let wrong = |what| format!("line {line}: callback target {name}: {what}");
            let target = table.into_inner().settings(line).map_err(wrong)?;
            targets.insert(name, target);
        }
        let mut allow = Vec::new();
        for table in self.allow {
            let line = line(text, &table.span());
            let wrong = |what| format!("line {line}: [[callbacks.allow]]: {what}");
            allow.push(table.into_inner().settings(line).map_err(wrong)?);
        }
        Ok(Settings {
            timeout: self.timeout.map_or(TIMEOUT_DEFAULT, |seconds| seconds.0),
            targets,
            allow,
            config_file: Some(path.into()),
            credentials: credentials_directory(),
        })
    }
}

fn line(text: &str, span: &Range<usize>) -> usize {
    line_of(text, span.start).unwrap_or_default()
}

impl TargetTable {
    fn settings(self, line: usize) -> Result<TargetSettings, String> {
        let present = (self.secret, self.secret_file, self.secret_credential);
        let previous =
            (self.previous_secret, self.previous_secret_file, self.previous_secret_credential);
        Ok(TargetSettings {
            line: Some(line),
            preset: self.preset,
            url: self.url,
            secrets: secrets(present, previous)?,
            user: self.user,
            method: self.method,
            headers: self.headers.into_iter().map(|(name, value)| (name, value.0)).collect(),
            template: self.template,
            vars: self.vars.into_iter().collect(),
            allow_vars: self.allow_vars,
            allow_cidrs: self.allow_cidrs,
        })
    }
}

impl AllowTable {
    fn settings(self, line: usize) -> Result<AllowSettings, String> {
        let present = (self.secret, self.secret_file, self.secret_credential);
        let previous =
            (self.previous_secret, self.previous_secret_file, self.previous_secret_credential);
        Ok(AllowSettings {
            line: Some(line),
            url: self.url,
            host: self.host,
            secrets: secrets(present, previous)?,
            allow_cidrs: self.allow_cidrs,
        })
    }
}

/// The places in which a secret may stand: a text, a file, a credential.
type Places = (Option<SecretText>, Option<Hidden>, Option<Hidden>);

fn secrets(present: Places, previous: Places) -> Result<SecretSettings, String> {
    let (present, previous) = (one_of("secret", present)?, one_of("previous_secret", previous)?);
    Ok(SecretSettings { present, previous })
}

/// A secret is in one place.
fn one_of(key: &str, places: Places) -> Result<Option<SecretSource>, String> {
    match places {
        (None, None, None) => Ok(None),
        (Some(SecretText(secret)), None, None) => Ok(Some(SecretSource::Inline(secret))),
        (None, Some(Hidden(path)), None) if path.starts_with('/') => {
            Ok(Some(SecretSource::File(path.into())))
        }
        (None, Some(_), None) => {
            Err(format!("`{key}_file` must be a path that begins with `/`, and it does not"))
        }
        (None, None, Some(Hidden(name))) => Ok(Some(SecretSource::Credential(name))),
        _ => Err(format!("set only one of `{key}`, `{key}_file` and `{key}_credential`")),
    }
}

/// Where systemd puts credentials.
pub(super) fn credentials_directory() -> Option<PathBuf> {
    std::env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from)
}

/// Whom the configuration declares, with the secrets read, and warnings.
pub(super) fn registry(config: &Config) -> Result<(Registry, Vec<String>), Error> {
    Registry::new(&config.callbacks).map_err(|error| {
        let path = config.callbacks.config_file.as_deref().unwrap_or(Path::new(""));
        Error::Wrong { path: path.display().to_string(), what: error.to_string() }
    })
}

#[cfg(test)]
mod tests {
    use super::{super::args::Args, *};

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn load(text: &str) -> Result<(Registry, Vec<String>), Error> {
        let args = Args {
            config: None,
            listen: None,
            data_dir: None,
            check_config: true,
            restore: None,
            new_admin_token: false,
            demo: false,
        };
        Config::parse(&text.replace("KEY", KEY), "x.toml", &args).and_then(|c| registry(&c))
    }

    #[test]
    fn targets_and_permitted_urls_are_read() {
        let text = r#"
            [callbacks]
            timeout = "5s"
            [callbacks.targets.gitlab-fpga]
            preset = "gitlab-play"
            url = "https://gitlab.example/api/v4"
            secret = "glpat-1"
            allow_cidrs = ["10.0.0.0/8"]
            vars = { project = "fpga/core" }
            allow_vars = ["BRANCH", "SIM_*"]
            [callbacks.targets.chat]
            preset = "generic"
            url = "https://chat/hook"
            secret = "KEY"
            previous_secret = "KEY"
            method = "PUT"
            template = '{"text": "{{holder}}"}'
            [callbacks.targets.chat.headers]
            X-Room = "7"
            [[callbacks.allow]]
            url = "https://hooks.example/ci/"
            secret = "KEY"
            [[callbacks.allow]]
            host = "other.example:8443"
            secret = "KEY"
        "#;
        let (registry, warnings) = load(text).unwrap();
        let names: Vec<_> = registry.targets().map(|target| target.name.to_string()).collect();
        assert_eq!((names, warnings), (vec!["chat".into(), "gitlab-fpga".into()], vec![]));
    }

    #[test]
    fn the_commented_example_is_right_once_the_marks_are_off() {
        let example = include_str!("../../packaging/example.toml");
        let (example, tokens) = example.split_once("\n#[[auth.tokens]]\n").unwrap();
        assert!(tokens.lines().all(|line| line.starts_with('#')), "it is the last of the file");
        let lines = example.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with("secret_") => "secret = \"KEY\"",
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        });
        let (registry, warnings) = load(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(registry.targets().count(), 5);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn errors_have_their_line_and_name_the_target() {
        let target = "[callbacks.targets.farm]\npreset = \"gitlab-play\"\n";
        let play = format!("{target}url = \"https://gitlab.example\"\n");
        let entry = "[[callbacks.allow]]\nurl = \"https://a.example/\"\n";
        for (text, expected) in [
            (format!("{play}secrt = \"x\""), "line 4: unknown field `secrt`"),
            (format!("{target}secret = \"x\""), "line 1: missing field `url`"),
            (format!("{play}secret = \"\""), "line 4: the secret is empty"),
            (format!("{play}secret = 815"), "line 4: this must be a text in quotes"),
            (format!("\n\n{play}"), "line 3: callback target farm: a secret is missing"),
            (
                format!("\n{play}secret = \"x\"\nsecret_file = \"/x\""),
                "line 2: callback target farm: set only one of `secret`, `secret_file` and `secret_credential`",
            ),
            (
                format!("{play}secret_file = \"x\""),
                "`secret_file` must be a path that begins with `/`, and it does not",
            ),
            (
                format!("{play}secret_file = \"/nonexistent/gitlab.token\""),
                "line 1: callback target farm: `secret`: cannot read the secret in /nonexistent/gitlab.token: No such",
            ),
            (
                format!("{target}url = \"https://gitlab.example:0\"\nsecret = \"x\""),
                "line 1: callback target farm: `url = \"https://gitlab.example:0\"`: the port must be from 1 to 65535",
            ),
            (
                "[callbacks.targets.\"a b\"]".into(),
                "line 1: a callback target's name must be 1 to 64",
            ),
            (
                "[callbacks]\ntimeout = \"0s\"".into(),
                "[callbacks]: `timeout` must be from 1s to 60s",
            ),
            ("[callbacks]\nretries = 1".into(), "line 2: unknown field `retries`"),
            (
                format!("{entry}secret = \"x\""),
                "line 1: [[callbacks.allow]] number 1: `secret`: the secret of a signed",
            ),
            (
                format!("{entry}secret = \"KEY\"\n{entry}"),
                "line 4: [[callbacks.allow]] number 2: a secret is missing",
            ),
            (
                format!("{entry}secret = \"KEY\"\nhost = \"a.example\""),
                "set one of `url` and `host`",
            ),
            (
                format!("{entry}previous_secret = \"a\"\nprevious_secret_file = \"/b\""),
                "line 1: [[callbacks.allow]]: set only one of",
            ),
        ] {
            let error = load(&text).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with("the configuration x.toml is wrong: "), "{error}");
            assert!(error.contains(expected), "{text}\n{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn errors_show_no_secret() {
        for text in [
            "secret = \"glpat\\u0000\"",
            "secret = \"gl pat\"",
            "secret = \"glpat\"\nx = 1",
            "x = 1",
            "secret = 4711000815",
            "secret = -4711000815.5",
            "secret = 47110008154711000815471100081547110008",
            "secret = glpat-1",
            "secret = glpat",
            "secret = 'glpat",
            "secret = [\"glpat\"]",
            "secret = { glpat = \"glpat\" }",
            "secret_file = \"glpat-1\"",
            "secret_file = 4711000815",
            "secret = \"x\"\nheaders = { A = 4711000815 }",
            "secret = \"x\"\nheaders = { A = 47110008154711000815471100081547110008 }",
            "secret = \"x\"\nheaders = { A = { file = \"glpat\" } }",
            "secret = \"x\"\nheaders = { A = { glpat = \"/x\" } }",
            "secret = \"x\"\nheaders = { A = { file = \"/x\", credential = \"glpat\" } }",
            "secret_credential = \"glpat-1/\"",
            "secret_credential = \"glpat-1\"",
            "secret_credential = 4711000815",
        ] {
            let text = format!(
                "[callbacks.targets.farm]\npreset = \"gitlab-play\"\nurl = \"https://g.example\"\n{text}"
            );
            for text in [text.clone(), text.replace("g.example", "bot:glpat@g.example")] {
                let error = load(&text).map(|_| ()).unwrap_err().to_string();
                let shown = ["pat\\", "glpat", "gl pat", "4711"];
                assert!(shown.iter().all(|secret| !error.contains(secret)), "{text}\n{error}");
            }
        }
    }
}
