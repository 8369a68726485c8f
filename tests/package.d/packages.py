"""The packages that are tested: those of this checkout, and the same files as packages of an earlier version."""

import os
import pathlib
import shutil
import subprocess
import tempfile

# Sorts before every version without it, for dpkg and RPM.
EARLIER = "~earlier"
# The configuration of the earlier version differs, so that an upgrade has to decide whose file it takes.
EARLIER_CONFIGURATION = "\n# A line that the later version does not have.\n"


def target(root):
    return pathlib.Path(root, os.environ.get("CARGO_TARGET_DIR", "target"))


def build(root):
    """Builds the packages of this checkout, checked by lintian and rpmlint; their directory, and that of the earlier ones."""
    dist = target(root) / "package-test/dist"
    subprocess.run([f"{root}/packaging/build"], check=True, env={**os.environ, "DIST": str(dist)})
    earlier = target(root) / "package-test/earlier"
    shutil.rmtree(earlier, ignore_errors=True)
    earlier.mkdir()
    for package in dist.glob("*.deb"):
        earlier_deb(package, earlier)
    earlier_rpms(root, earlier)
    for directory in (dist, earlier):
        subprocess.run("sha256sum -- *.deb *.rpm >SHA256SUMS", shell=True, check=True, cwd=directory)
    return dist, earlier


def earlier_deb(package, directory):
    name, version, architecture = package.stem.split("_")
    with tempfile.TemporaryDirectory() as scratch:
        tree = pathlib.Path(scratch, "tree")
        subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"\nVersion: {version}\n", f"\nVersion: {version}{EARLIER}\n"))
        append_earlier(tree / "etc/semaphored/semaphored.toml")
        made = directory / f"{name}_{version}{EARLIER}_{architecture}.deb"
        subprocess.run(
            ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, made],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def earlier_rpms(root, directory):
    """With the spec of this checkout, and what packaging/build has put together for it."""
    version = subprocess.run([f"{root}/packaging/version"], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as scratch:
        script = pathlib.Path(scratch, "packaging/version")
        script.parent.mkdir()
        script.write_text(f"#!/bin/sh\necho '{version}{EARLIER}'\n")
        script.chmod(0o755)
        stage = f"{scratch}/stage"
        shutil.copytree(target(root) / "package/stage", stage)
        append_earlier(pathlib.Path(stage, "semaphored.toml"))
        defined = {"_topdir": f"{scratch}/rpm", "_sourcedir": scratch, "stage": stage}
        options = [word for name, value in defined.items() for word in ("--define", f"{name} {value}")]
        subprocess.run(["rpmbuild", "-bb", "--quiet", *options, f"{root}/packaging/semaphored.spec"], check=True)
        for package in pathlib.Path(scratch, "rpm/RPMS").glob("*/*.rpm"):
            shutil.copy(package, directory)


def append_earlier(path):
    if path.exists():
        with path.open("a") as file:
            file.write(EARLIER_CONFIGURATION)
