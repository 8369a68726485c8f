"""A container with systemd as PID 1, over a root directory that is only read: what is written goes to memory, and
survives a reboot of the container.

It runs in control groups of its own, so that the end leaves nothing behind: no process, no group, no mount (the caller
has a mount namespace of its own).
"""

import os
import pathlib
import re
import signal
import subprocess
import time

# With this systemd-nspawn asks to be started again.
REBOOT = 133
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Failed(Exception):
    """A condition that did not come true in time, or a command that failed."""


def until(what, condition, seconds=20):
    """Waits for a condition, which is asked again and again; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return value


def control_groups():
    """The directories of this process's control groups that systemd in a container looks at, for groups of its own."""
    mounts = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields, kind = line.split(" - ")
        if kind.startswith("cgroup2 "):
            mounts[""] = fields.split()[4]
        elif kind.startswith("cgroup ") and "name=systemd" in kind:
            mounts["name=systemd"] = fields.split()[4]
    groups = []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, hierarchy, path = line.split(":", 2)
        if hierarchy in mounts:
            groups.append(pathlib.Path(mounts[hierarchy] + path) / f"semaphored-test-{os.getpid()}")
    return groups


def stat_of(pid):
    """Name and parent of a process; nothing where it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.index("(") + 1 : text.rindex(")")], int(text[text.rindex(")") + 2 :].split()[1])


class Container:
    def __init__(self, name, base, directory):
        # No other's, also where two run beside each other.
        self.name, self.base, self.directory = f"{name}-{os.getpid()}", base, directory
        self.root = directory / "root"
        self.console = directory / "console.log"
        self.groups = control_groups()
        self.process = self.leader = None
        self.started = []

    def __enter__(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.directory], check=True)
        for name in ("root", "upper", "work"):
            (self.directory / name).mkdir()
        layers = f"lowerdir={self.base},upperdir={self.directory}/upper,workdir={self.directory}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", self.root], check=True)
        for group in self.groups:
            group.mkdir()
        return self

    def start(self):
        join = 'until [ "$1" = -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--console=pipe",
            f"--machine={self.name}",
            "--directory",
            self.root,
            "--boot",
        ]
        # Where this program is killed systemd-nspawn shuts the container down. Empty control groups are left then.
        command = ["setpriv", "--pdeathsig", "TERM", "sh", "-c", join, "sh", *self.groups, "--", *nspawn]
        with self.console.open("ab") as console:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        self.leader = until("systemd is there", self.find_leader, 60)
        done = ("running", "degraded")
        until(
            "systemd has started everything",
            lambda: self.run("systemctl is-system-running || true").strip() in done,
            90,
        )

    def find_leader(self):
        """PID 1 of the container, by the tree of processes: there is no machined to ask."""
        if self.process.poll() is not None:
            raise Failed(f"systemd-nspawn ended with {self.process.returncode}")
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            stat = stat_of(pid)
            if stat and stat[0] == "systemd" and self.is_ours(stat[1]):
                return pid
        return None

    def is_ours(self, pid):
        """Whether a process is systemd-nspawn or was started by it directly."""
        stat = stat_of(pid)
        return pid == self.process.pid or bool(stat and stat[1] == self.process.pid and stat[0] != "systemd")

    def inside(self, command, environment=None):
        """The command line that runs this in the container, by a shell."""
        variables = {
            "PATH": PATH,
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **(environment or {}),
        }
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i"]
        return [*enter, *(f"{name}={value}" for name, value in variables.items()), "bash", "-c", command]

    def run(self, command, environment=None, code=0, errors=False):
        """Runs a command in the container; its standard output, with `errors` also what it said beside."""
        into = subprocess.STDOUT if errors else subprocess.PIPE
        done = subprocess.run(
            self.inside(command, environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=into,
            text=True,
            timeout=180,
        )
        if done.returncode != code:
            raise Failed(
                f"{command}\nended with {done.returncode} instead of {code}:\n{done.stdout}{done.stderr or ''}"
            )
        return done.stdout

    def start_inside(self, command, environment=None, **streams):
        """Starts a command in the container that goes on."""
        return self.remember(subprocess.Popen(self.inside(command, environment), **streams))

    def start_beside(self, *command, **streams):
        """Starts this machine's program in the container's network."""
        enter = ["nsenter", "-t", str(self.leader), "-n", *map(str, command)]
        return self.remember(subprocess.Popen(enter, **streams))

    def remember(self, process):
        self.started.append(process)
        return process

    def reboot(self):
        # The answer may be cut off by what it began.
        subprocess.run(self.inside("systemctl reboot"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        code = self.process.wait(90)
        if code != REBOOT:
            raise Failed(f"at the reboot systemd-nspawn ended with {code}")
        self.start()

    def __exit__(self, *_):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.process and self.process.poll() is None:
            # It has its systemd shut down.
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for mount in (self.root, self.directory):
            subprocess.run(["umount", "--lazy", mount], check=False)
        for group in self.groups:
            until("its control groups are empty", lambda group=group: remove_group(group), 20)
        # systemd-nspawn leaves it.
        for left in pathlib.Path("/run/systemd/nspawn/propagate").glob(self.name):
            left.rmdir()


def remove_group(group):
    """Removes a control group and those in it; whether that was possible."""
    try:
        for path, _, _ in os.walk(group, topdown=False):
            os.rmdir(path)
    except OSError:
        return False
    return True


def unit(container, *names):
    """Properties of semaphored.service."""
    shown = container.run("systemctl show semaphored.service " + " ".join(f"--property={name}" for name in names))
    values = dict(re.findall(r"^(\w+)=(.*)$", shown, re.MULTILINE))
    return values[names[0]] if len(names) == 1 else [values[name] for name in names]
