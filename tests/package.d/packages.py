"""The packages that are tested: those that a release of this checkout is made of, and those of an earlier commit."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from container import Failed

# What an upgrade starts from, and a downgrade goes back to. When a version has been released, its tag.
EARLIER_COMMIT = "76f1c01366412abd2e942992ed75fb470f0af159"
# Sorts before every version without it, for dpkg and RPM.
EARLIER = "~earlier"
# The configuration of the earlier version differs, so that an upgrade has to decide whose file it takes.
EARLIER_CONFIGURATION = "\n# A line that the later version does not have.\n"
PUBLISHER = {
    "DEBFULLNAME": "Test of the packages",
    "DEBEMAIL": "test@packages.invalid",
    "HOMEPAGE": "https://packages.invalid/?a=1&b=2",
}


def target(root):
    return pathlib.Path(root, os.environ.get("CARGO_TARGET_DIR", "target")).absolute()


def build(root, whole):
    """The directory with the packages of this checkout, and the one with the earlier ones. `whole` makes a release, with
    everything that it refuses and compares; else the packages are only built."""
    place = target(root) / "package-test"
    earlier = earlier_packages(root, place)
    checkout = place / "checkout"
    fill(checkout, sources(root))
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target(root))}
    for name in PUBLISHER:
        environment.pop(name, None)
    if whole:
        release(checkout, environment)
    else:
        commit(checkout)
        for name in ("DIST", "SOURCE_DATE_EPOCH"):
            environment.pop(name, None)
        subprocess.run(["packaging/build"], check=True, cwd=checkout, env=environment)
        write_sums(checkout / "dist")
    return checkout / "dist", earlier


def output(*command, cwd=None):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def version(root):
    return output(f"{root}/packaging/version").strip()


def sources(root):
    """The files of this checkout as they are now, committed or not: their names with what is in them, and may it run."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = output(*listing, cwd=root)
    paths = [pathlib.Path(root, name) for name in listed.split("\0") if name]
    return {
        str(path.relative_to(root)): (path.read_bytes(), os.access(path, os.X_OK)) for path in paths if path.exists()
    }


def fill(checkout, files):
    """Makes a repository with these files. Always at the same place, and what is right already is left alone: so cargo does
    not build everything anew each time."""
    subprocess.run(["git", "init", "--quiet", checkout], check=True)
    for name in output("git", "ls-files", "-z", cwd=checkout).split("\0"):
        if name and name not in files:
            (checkout / name).unlink(missing_ok=True)
    subprocess.run(["git", "clean", "-qfdx"], cwd=checkout, check=True)
    write(checkout, files)


def write(directory, files):
    for name, (content, executable) in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)


def commit(checkout):
    for arguments in (["add", "--all"], ["commit", "--quiet", "--allow-empty", "--message", "As it is now"]):
        who = ["-c", "user.name=test", "-c", "user.email=test@packages.invalid", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=checkout, check=True)


def release(checkout, environment):
    """By packaging/release, which refuses what cannot be released."""
    heading = f"## [{version(checkout)}] - 2026-01-01"
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(re.sub(r"^## \[.*$", "## [Unreleased]", changelog.read_text(), count=1, flags=re.MULTILINE))
    commit(checkout)
    refused(checkout, environment, "CHANGELOG.md has no heading")
    changelog.write_text(changelog.read_text().replace("## [Unreleased]", heading, 1))
    refused(checkout, environment, "not committed")
    commit(checkout)
    for name in PUBLISHER:
        refused(checkout, {**environment, **PUBLISHER, name: ""}, f"{name} is not set")
    made = subprocess.run(
        ["packaging/release"],
        check=True,
        cwd=checkout,
        # What a shell may have left over does not count.
        env={**environment, **PUBLISHER, "SOURCE_DATE_EPOCH": "1600000000", "DIST": "/nonexistent"},
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    print(made)
    if "both times the same bytes" not in made:
        raise Failed("packaging/release has not compared the packages")
    number = version(checkout)
    expected = {f"{name}_{number}_amd64.deb" for name in ("semaphored", "semaphorectl")}
    expected |= {f"{name}-{number}-1.x86_64.rpm" for name in ("semaphored", "semaphorectl")}
    expected |= {f"semaphored-{number}.tar.gz", "SHA256SUMS"}
    found = {path.name for path in (checkout / "dist").iterdir()}
    if found != expected:
        raise Failed(f"packaging/release has made {found}")
    for package in (checkout / "dist").glob("*.deb"):
        fields = ["Maintainer", "Homepage"]
        said = output("dpkg-deb", "--field", package, *fields)
        if PUBLISHER["DEBEMAIL"] not in said or PUBLISHER["HOMEPAGE"] not in said:
            raise Failed(said)


def refused(checkout, environment, why):
    done = subprocess.run(["packaging/release"], cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode != 1 or why not in done.stderr:
        raise Failed(f"packaging/release ended with {done.returncode}, without '{why}':\n{done.stdout}{done.stderr}")


def write_sums(directory):
    subprocess.run("sha256sum -- *.deb *.rpm >SHA256SUMS", shell=True, check=True, cwd=directory)


def earlier_packages(root, place):
    """Of an earlier commit, by its own scripts: other programs, units and maintainer scripts. They are kept."""
    name, archive = earlier_source(root)
    kept = place / f"earlier-{name}"
    if kept.exists():
        return kept
    print(f"building the earlier packages, of {name}")
    with tempfile.TemporaryDirectory(prefix="semaphored-earlier-") as scratch:
        source = pathlib.Path(scratch, "source")
        source.mkdir()
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        number = version(source)
        (source / "packaging/version").write_text(f"#!/bin/sh\necho '{number}{EARLIER}'\n")
        changelog = source / "CHANGELOG.md"
        changelog.write_text(changelog.read_text().replace(f"## [{number}]", f"## [{number}{EARLIER}]"))
        with (source / "packaging/example.toml").open("a") as file:
            file.write(EARLIER_CONFIGURATION)
        made = pathlib.Path(scratch, "dist")
        environment = {**os.environ, "DIST": str(made), "SOURCE_DATE_EPOCH": "1700000000"}
        environment.pop("CARGO_TARGET_DIR", None)
        subprocess.run([source / "packaging/build"], check=True, env=environment)
        write_sums(made)
        # Whole or not at all.
        place.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, f"{kept}.new", dirs_exist_ok=True)
        os.rename(f"{kept}.new", kept)
    return kept


def earlier_source(root):
    """Its name, and it as an archive. A checkout may come without its history: then it is earlier than itself."""
    name = EARLIER_COMMIT
    if subprocess.run(["git", "cat-file", "-e", f"{name}^{{commit}}"], cwd=root, stderr=subprocess.DEVNULL).returncode:
        print(
            f"tests/package: no history back to {name} here: the earlier packages are of this commit, with another number"
        )
        name = output("git", "rev-parse", "HEAD", cwd=root).strip()
    return name, subprocess.run(["git", "archive", name], cwd=root, check=True, capture_output=True).stdout
