//! What the packages ship: the units fit the daemon, the configuration is right, and both kinds of packages have the
//! same in them. That they install and run is for `tests/package`, which needs root.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use super::files;

const UNIT: &str = include_str!("../../systemd/semaphored.service");
const SOCKET: &str = include_str!("../../systemd/semaphored.socket");
const SYSUSERS: &str = include_str!("../../systemd/semaphored.sysusers");
const POSTRM: &str = include_str!("../../packaging/debian/semaphored.postrm");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const SPEC: &str = include_str!("../../packaging/semaphored.spec");
/// Ten times the exposure that `systemd-analyze security` may find.
const EXPOSURE_MAX: &str = "--threshold=11";

/// What a script or program writes; fails unless it ends with 0.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name))
}

/// The values of a key of a unit, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// What the daemon says of its options, as one line.
fn help() -> String {
    let help = output(Command::new(env!("CARGO_BIN_EXE_semaphored")).arg("--help"));
    help.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    // The daemon is installed nowhere else here.
    let program = env!("CARGO_BIN_EXE_semaphored");
    let unit = UNIT.replace("/usr/sbin/semaphored", program);
    assert_ne!(unit, UNIT);
    let isolated = fs::read_to_string("systemd/isolated.conf").unwrap();
    fs::write(path("semaphored.service"), &unit).unwrap();
    fs::write(path("semaphored.socket"), SOCKET).unwrap();
    // systemd-analyze reads drop-ins from system directories alone, so this one stands behind the unit's last section.
    fs::write(path("isolated.service"), format!("{unit}\n{isolated}")).unwrap();
    for name in ["semaphored.service", "semaphored.socket", "isolated.service"] {
        let mut analyze = Command::new("systemd-analyze");
        let checked = analyze.args(["verify", "--man=no"]).arg(path(name)).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{name}: {said}");
        // It looks at the units of this machine too.
        let of_ours: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(of_ours.is_empty(), "{of_ours:?}");
    }
    for name in ["semaphored.service", "isolated.service"] {
        let mut analyze = Command::new("systemd-analyze");
        output(analyze.args(["security", "--offline=true", EXPOSURE_MAX]).arg(path(name)));
    }
}

#[test]
fn the_units_say_what_the_daemon_takes_by_default() {
    let help = help();
    assert_eq!(values(UNIT, "ExecStart"), ["/usr/sbin/semaphored"], "without options");
    let address = values(SOCKET, "ListenStream");
    assert_eq!(address.len(), 1);
    assert!(help.contains(&format!("{} by default", address[0])), "{help}");
    let data_dir = format!("/var/lib/{}", values(UNIT, "StateDirectory")[0]);
    assert!(help.contains(&format!("{data_dir} by default")), "{help}");
    assert!(POSTRM.contains(&format!("\ndata={data_dir}\n")));
    let user = values(UNIT, "User")[0];
    assert_eq!(SYSUSERS, format!("u {user} - \"Semaphore service\" {data_dir}\n"));
    assert!(POSTRM.contains("\nsettings=/etc/semaphored\n"));
    assert!(help.contains("/etc/semaphored/semaphored.toml"));
    assert!(values(UNIT, "RestrictAddressFamilies")[0].contains("AF_NETLINK"), "presence");
}

/// The unit and the table of exit codes tell the same.
#[test]
fn another_start_is_not_tried_where_it_cannot_help() {
    let refused = values(UNIT, "RestartPreventExitStatus");
    assert_eq!(refused.len(), 1);
    assert!(OPERATIONS.contains(&format!("`RestartPreventExitStatus={}`", refused[0])));
    let codes: BTreeSet<&str> = refused[0].split(' ').collect();
    let rows: Vec<&str> = OPERATIONS.lines().filter(|line| line.starts_with("| ")).collect();
    for code in &codes {
        assert!(rows.iter().any(|row| row.starts_with(&format!("| {code} |"))), "{code}");
    }
    // A full disk is emptied, an address comes free, another daemon ends.
    assert!(["69", "70", "74", "75"].iter().all(|code| !codes.contains(code)));
}

#[test]
fn a_fresh_install_has_the_defaults_and_no_semaphore() {
    let config = output(&mut script("shipped-config"));
    let open: Vec<&str> =
        config.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(open, ["[auth]", "[semaphores]"]);
    assert!(config.contains("\n#data_dir = \"/var/lib/semaphored\"\n"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("semaphored.toml");
    fs::write(&path, &config).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_semaphored"));
    output(check.arg("--check-config").arg("--config").arg(&path));
}

/// The words that lines begin with `stage/` in the lists of debhelper, which takes the units by their own names.
fn in_debian_packages() -> BTreeSet<String> {
    let mut sources = BTreeSet::new();
    for file in fs::read_dir("packaging/debian").unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "install" || kind == "manpages") {
            let list = fs::read_to_string(&path).unwrap();
            let words =
                list.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("stage/"));
            sources.extend(words.map(str::to_owned));
        }
    }
    for kind in ["service", "socket", "sysusers"] {
        sources.insert(format!("systemd/semaphored.{kind}"));
    }
    sources
}

fn in_rpms() -> BTreeSet<String> {
    let puts = SPEC.lines().filter_map(|line| line.strip_prefix("put "));
    puts.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn both_kinds_of_packages_have_all_of_it() {
    let (debian, mut rpms) = (in_debian_packages(), in_rpms());
    // Debian enables units by itself.
    assert!(rpms.remove("systemd/semaphored.preset"));
    assert_eq!(debian, rpms);
    let mut made: BTreeSet<String> = ["bin/semaphored", "bin/semaphorectl", "semaphored.toml"]
        .map(str::to_owned)
        .into_iter()
        .collect();
    for directory in ["nginx", "systemd"] {
        for file in fs::read_dir(directory).unwrap() {
            made.insert(format!("{directory}/{}", file.unwrap().file_name().display()));
        }
    }
    made.remove("systemd/semaphored.preset");
    for (path, _) in files::all("2026-11-24") {
        // Under the name that bash looks for.
        let path = path.trim_end_matches(".bash");
        made.insert(path.to_owned());
    }
    assert_eq!(debian, made);
}

#[test]
fn versions_changelogs_and_copyright_have_one_source() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(output(&mut script("version")), format!("{version}\n"));
    let changelog = |form| {
        let who = [("DEBFULLNAME", "Some One"), ("DEBEMAIL", "one@packages.invalid")];
        output(script("changelog").arg(form).env("SOURCE_DATE_EPOCH", "1700000000").envs(who))
    };
    let debian = changelog("deb");
    assert!(
        debian.starts_with(&format!("semaphored ({version}) unstable; urgency=medium\n\n  * "))
    );
    let mut entries = debian.lines().filter(|line| line.starts_with("  "));
    assert!(entries.all(|line| line.chars().count() <= 80));
    assert!(debian.contains("\n -- Some One <one@packages.invalid>  "));
    let rpm = changelog("rpm");
    let first = format!(" Some One <one@packages.invalid> - {version}-1");
    assert!(rpm.lines().next().unwrap().ends_with(&first), "{rpm}");

    let copyright = output(script("copyright").arg("x86_64-unknown-linux-gnu"));
    assert!(copyright.contains("\nFiles: third-party/tiny_http-"));
    assert!(copyright.contains("\nFiles: third-party/sqlite/"));
    // Not linked: it runs while building, or is for tests.
    for name in ["serde_derive", "cc", "proptest", "criterion"] {
        assert!(!copyright.contains(&format!("third-party/{name}-")), "{name}");
    }
    // Each licence that is named has its text.
    for line in copyright.lines().filter_map(|line| line.strip_prefix("License: ")) {
        for name in line.split(" and ") {
            let texts = copyright.matches(&format!("\nLicense: {name}\n ")).count();
            assert_eq!(texts, 1, "{name}");
        }
    }
}

/// In a checkout that is the commit's; in the archive of a release, where there is no repository, what `git archive` wrote.
#[test]
fn the_time_of_the_packages_is_known_without_a_repository() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packaging/commit-time");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let of_checkout = fs::read_to_string("packaging/commit-time").unwrap();
    let asked = |text: &str| {
        fs::write(&path, text).unwrap();
        let mut asked = Command::new("sh");
        asked.arg(&path).env_remove("SOURCE_DATE_EPOCH");
        // Where somebody has a repository around all of it, it is none of ours.
        asked.env("GIT_CEILING_DIRECTORIES", directory.path());
        asked
    };
    let archived = of_checkout.replace("$Format:%ct$", "1700000001");
    assert_ne!(archived, of_checkout);
    assert_eq!(output(&mut asked(&archived)), "1700000001\n");
    assert_eq!(output(asked(&archived).env("SOURCE_DATE_EPOCH", "1700000002")), "1700000002\n");
    let nowhere = asked(&of_checkout).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("set SOURCE_DATE_EPOCH"));
    let attributes = fs::read_to_string(".gitattributes").unwrap();
    assert!(attributes.lines().any(|line| line == "packaging/commit-time export-subst"));
}

/// The maintainer script of Debian, on directories of the test.
#[test]
fn a_removal_keeps_the_data_and_a_purge_says_what_it_removes() {
    let directory = tempfile::tempdir().unwrap();
    let (data, settings) = (directory.path().join("data"), directory.path().join("settings"));
    let config = settings.join("semaphored.toml");
    let script = POSTRM
        .replace("\ndata=/var/lib/semaphored\n", &format!("\ndata={}\n", data.display()))
        .replace("\nsettings=/etc/semaphored\n", &format!("\nsettings={}\n", settings.display()));
    let run = |argument: &str| {
        let mut shell = Command::new("sh");
        let done = shell.args(["-c", &script, "postrm", argument]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    let fill = || {
        fs::create_dir_all(&settings).unwrap();
        fs::write(&config, "#data_dir = \"/commented\"\n").unwrap();
    };
    fill();
    fs::create_dir(&data).unwrap();
    assert_eq!(run("remove"), "");
    assert_eq!(run("upgrade"), "");
    for line in ["data_dir = \"/srv/s\"  # the \"big\" disk", "data_dir='/srv/s'  # the 'big' disk"]
    {
        fs::write(&config, format!("{line}\n")).unwrap();
        assert!(run("remove").contains("the data are in /srv/s, and stay there"), "{line}");
    }
    assert!(data.exists() && config.exists());

    let said = run("purge");
    assert!(said.contains(&format!("removing {}, with the database", data.display())), "{said}");
    assert!(!data.exists() && !settings.exists());
    assert_eq!(run("purge"), "", "nothing is left to say");

    // A link to another disk.
    fill();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    std::os::unix::fs::symlink(&disk, &data).unwrap();
    assert!(run("purge").contains("the link is removed, what is there stays"));
    assert!(disk.exists() && data.symlink_metadata().is_err());
}
