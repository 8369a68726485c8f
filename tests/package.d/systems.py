"""The systems that are tried, each in a container of its own: in what order what is done and looked at."""

import shutil
import time

import checks
import document
import packages
from checks import CONFIGURATION, DATA, check, same
from container import Container, Failed, unit
from farm import Farm

# What is tried in which root.
OF = {"bookworm": ("debian", "rpm", "source"), "trixie": ("debian", "rpm")}
# What an admin has written into the configuration, and no upgrade may take away.
MINE = "# mine"
# The section of docs/install.md that installs the packages.
INSTALLATION = {"debian": "Debian and Ubuntu", "rpm": "RHEL and Fedora"}
# What an admin would do who wants the version before back. The document does not say it: a backup is the way back.
DOWNGRADE = {
    "debian": "apt-get install --allow-downgrades ./semaphored_*.deb ./semaphorectl_*.deb",
    "rpm": "rpm -U --nodeps --oldpackage ./semaphored-*.rpm ./semaphorectl-*.rpm",
}


class Trial:
    def __init__(self, root, install, system, container, dist, earlier):
        self.install, self.system, self.container = install, system, container
        self.dist, self.earlier = dist, earlier
        self.farm = Farm(container)
        self.root = root
        self.clients = f"{root}/tests/package.d/clients.py"

    def follow(self, *sections):
        for section in sections:
            said = self.install.run(self.container, self.system, section)
        return said

    def give(self, packages):
        """Puts packages into the directory where the document's reader is, instead of what was there."""
        here = self.container.root / "root/packages"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(packages, here)

    def version(self, package="semaphored"):
        asked = {"debian": "dpkg-query -W -f '${Version}' %s", "rpm": "rpm -q --qf '%%{VERSION}' %s"}[self.system]
        return self.container.run(asked % package)

    def add_configuration(self):
        self.container.run(f"echo '{MINE}' >>{CONFIGURATION}")

    def configuration(self):
        return self.container.run(f"cat {CONFIGURATION}")


def run(root, install, suite, system, base, directory, dist, earlier):
    print(f"\n== {suite}, {system}")
    began = time.monotonic()
    with Container(f"semaphored-{suite}", base, directory) as container:
        try:
            prepare(container)
            container.start()
            trial = Trial(root, install, system, container, dist, earlier)
            {"debian": debian, "rpm": rpm, "source": source}[system](trial)
        except BaseException:
            print("\n== the console")
            print(container.console.read_text() if container.console.exists() else "nothing")
            if container.leader:
                checks.journal(container)
            raise
    print(f"== {suite}, {system}: {time.monotonic() - began:.0f} s")


def prepare(container):
    """What an installed system has and a minimal root has not."""
    root = container.root
    (root / "etc/hosts").write_text("127.0.0.1 localhost licences.example\n::1 localhost\n")
    # Nobody is there to be asked: yes, and as Enter answers about configurations.
    answers = 'APT::Get::Assume-Yes "true";\nDPkg::Options { "--force-confdef"; "--force-confold"; };\n'
    (root / "etc/apt/apt.conf.d/90test").write_text(answers)


def upgraded(trial):
    trial.add_configuration()
    mine = trial.configuration()
    before = trial.version()
    trial.give(trial.dist)
    process_id = unit(trial.container, "MainPID")
    with checks.survival(trial.farm, "an upgrade"):
        trial.follow("Upgrade")
    with check("the upgrade has restarted the service, and has left the changed configuration alone"):
        after = trial.version()
        print(f"      {before} to {after}")
        if before == after or process_id == unit(trial.container, "MainPID"):
            raise Failed(f"{before} to {after}, and the process is {process_id}")
        same(mine, trial.configuration())


def downgraded(trial):
    """As if the version that is installed had brought a newer schema; after that back to it."""
    farm, container = trial.farm, trial.container
    with check("an earlier version refuses a newer schema, is not tried again, and says why; nothing is lost"):
        held = farm.admin("acquire one --ttl 2h").strip()
        container.run("systemctl stop semaphored")
        before = checks.schema(container)
        checks.schema(container, 1000)
        trial.give(trial.earlier)
        container.run(f"cd /root/packages && {DOWNGRADE[trial.system]}", errors=True)
        container.run("systemctl restart semaphored", code=1, errors=True)
        checks.refuses_the_schema(container)
        checks.schema(container, before)
        container.run("systemctl restart semaphored")
    trial.give(trial.dist)
    trial.follow("Upgrade")
    with check("the newer version goes on where it was"):
        same([held], [claim["id"] for claim in farm.claims("one")])
        farm.admin(f"release {held}")


def installed_again(trial):
    """An upgrade is the same for a service that does not run; of the same version, dpkg and RPM have to be told so."""
    container, system = trial.container, trial.system
    command = {
        "debian": "apt-get install --reinstall ./semaphored_*.deb",
        "rpm": "rpm -U --nodeps --replacepkgs ./semaphored-*.rpm",
    }[system]
    # What the document says of a service that is stopped and no more, that is disabled, and that is masked.
    for command_before, expected, command_after in (
        ("stop", {"debian": "active", "rpm": "inactive"}[system], "start"),
        ("disable --now", "inactive", "enable --now"),
        ("mask --now", "inactive", "unmask"),
    ):
        with check(f"installed over a service after `systemctl {command_before}`: it is {expected}"):
            container.run(f"systemctl {command_before} semaphored", errors=True)
            container.run(f"cd /root/packages && {command}", errors=True)
            same(expected, unit(container, "ActiveState"))
            container.run(f"systemctl {command_after} semaphored && systemctl start semaphored", errors=True)
            trial.farm.until_ready()
            same("enabled", unit(container, "UnitFileState"))


def back_again(trial):
    """Removed with its data kept, and installed again."""
    farm, container = trial.farm, trial.container
    held = farm.admin("acquire FlexLM-Riviera --ttl 2h").strip()
    trial.follow("Uninstall", "Keep the data")
    with check("after removal the service is gone, NGINX runs, the data are kept"):
        container.run(
            f"test ! -e /usr/sbin/semaphored && test ! -e /usr/bin/semaphorectl && test -e {DATA}/semaphored.db"
        )
        container.run("! systemctl is-active semaphored")
        container.run("nginx -t && systemctl reload nginx && systemctl is-active nginx", errors=True)
    trial.follow(INSTALLATION[trial.system])
    with check("installed again it finds its state"):
        farm.until_ready()
        same([held], [claim["id"] for claim in farm.claims("FlexLM-Riviera")])
        same(True, MINE in trial.configuration().splitlines())


def removed_beside_a_site(trial):
    with check("who removes the package and leaves the site of NGINX is told"):
        trial.container.run("cp /usr/share/semaphored/nginx/semaphored.conf /etc/nginx/conf.d/")
        said = trial.follow("Keep the data")
        if "NGINX will not start again" not in said:
            raise Failed(said)


def used(trial):
    """What is the same for both kinds of packages: all, until the last of it is taken away."""
    container, farm = trial.container, trial.farm
    trial.give(trial.earlier)
    trial.follow(INSTALLATION[trial.system], "First steps", "NGINX and TLS")
    checks.declare(container, farm)
    upgraded(trial)
    checks.pages(container, trial.system)
    checks.way_in(container, farm)
    # It takes 50 s, and the kind of packages makes no difference to NGINX.
    if trial.system == "debian":
        checks.long_wait(container, farm)
    checks.wrong_configuration(container, farm)
    checks.restarts(container, farm)
    checks.watchdog(container, farm)
    trial.follow("Without callbacks to other machines")
    checks.isolated(container, farm)
    checks.presence(container, farm)
    checks.callback(container, farm, trial.clients)
    checks.own_socket(container, farm, trial.clients)
    trial.follow("The socket")
    checks.socket_unit(container, farm, trial.clients)
    checks.socket_given_up(container)
    trial.follow("When the socket was given up")
    checks.socket_is_back(container, farm)
    trial.follow("Back to a socket of its own")
    checks.crowd(container, farm, trial.clients)
    trial.follow("Backup")
    checks.backed_up(container, farm)
    checks.reboot(container, farm)
    downgraded(trial)
    installed_again(trial)
    back_again(trial)
    removed_beside_a_site(trial)


def fresh(trial):
    """After everything was removed: these packages where there was none."""
    # What the document says that stays, and what the reader's shell knows: NGINX has no site any more.
    trial.container.run(f"rm -r /etc/systemd/system/semaphored.service.d {document.SHELL}")
    trial.follow(INSTALLATION[trial.system])
    checks.clean_install(trial.container)
    trial.follow("First steps")


def debian(trial):
    used(trial)
    with check("purge takes data and configuration away, and says before what"):
        said = trial.follow("Remove everything")
        if f"removing {DATA}," not in said:
            raise Failed(said)
        trial.container.run(f"test ! -e {DATA} && test ! -e /etc/semaphored")
    fresh(trial)


def rpm(trial):
    used(trial)
    trial.follow("Remove everything")
    nothing_left(trial)
    fresh(trial)


def nothing_left(trial):
    with check("nothing is left of data, configuration, programs, units and user"):
        trial.container.run(
            f"test ! -e {DATA} && test ! -e /etc/semaphored && ! getent passwd semaphored && ! command -v semaphored semaphorectl"
            " && ! systemctl cat semaphored.service 2>/dev/null"
        )


def source(trial):
    """Without packages: the units and files of the checkout, and the programs that were built for the packages."""
    container, farm = trial.container, trial.farm
    trial.give(trial.dist)
    packages.write(container.root / "root/semaphored", packages.sources(trial.root))
    shutil.copytree(packages.target(trial.root) / "package/stage/bin", container.root / "root/programs")
    trial.follow("From source")
    checks.clean_install(container)
    trial.follow("First steps", "Upgrade")
    with check("after an upgrade from source it is ready again"):
        farm.until_ready()
        same(5, farm.semaphore("FlexLM-Riviera")["capacity"])
    trial.follow("Remove everything")
    nothing_left(trial)
