//! All files that are made, as texts.

mod bash;
pub(crate) mod commands;
mod fish;
mod manual;
mod markdown;
mod roff;
mod zsh;

use semaphored::model::WallTime;

const CHANGELOG: &str = include_str!("../../CHANGELOG.md");

/// Each with its path below the directory of all.
pub(crate) fn all(date: &str) -> [(&'static str, String); 6] {
    let commands = commands::of_client();
    [
        ("man/semaphored.8", manual::daemon(date)),
        ("man/semaphored.toml.5", manual::configuration(date)),
        ("man/semaphorectl.1", manual::client(date)),
        ("completions/semaphorectl.bash", bash::completion(&commands)),
        ("completions/_semaphorectl", zsh::completion(&commands)),
        ("completions/semaphorectl.fish", fish::completion(&commands)),
    ]
}

/// The date on the manual pages, `2026-11-24`: of these seconds since 1970, else of the newest release in CHANGELOG.md, else
/// none.
pub(crate) fn date(source_date_epoch: Option<&str>) -> Result<String, String> {
    let Some(seconds) = source_date_epoch else {
        let headings = CHANGELOG.lines().filter(|line| line.starts_with("## ["));
        let dates = headings.filter_map(|line| line.split_once("] - "));
        return Ok(dates.map(|(_, date)| date.trim()).next().unwrap_or_default().to_owned());
    };
    let milliseconds = seconds.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000));
    let milliseconds = milliseconds
        .ok_or_else(|| format!("SOURCE_DATE_EPOCH is not a number of seconds: {seconds}"))?;
    Ok(WallTime(milliseconds).to_rfc3339().chars().take(10).collect())
}
