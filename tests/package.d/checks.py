"""What is looked at on a booted system. Each check has a line that says what; the first that fails ends the test."""

import base64
import contextlib
import hashlib
import hmac
import json
import re
import sqlite3
import subprocess
import sys
import time

from container import Failed, unit, until
from farm import LOCAL, NGINX

CONFIGURATION = "/etc/semaphored/semaphored.toml"
# Beside what the document declares: one permit to wait for, and one for a crowd.
SEMAPHORES = "one = 1\\nmany = 1"
DATA = "/var/lib/semaphored"


@contextlib.contextmanager
def check(what):
    began = time.monotonic()
    try:
        yield
    except Exception:
        print(f"FAIL  {what}", flush=True)
        raise
    print(f"PASS  {what} ({time.monotonic() - began:.1f} s)", flush=True)


def same(expected, found):
    if expected != found:
        raise Failed(f"expected {expected}\nfound    {found}")


def declare(container, farm):
    """Declares the semaphores that the checks use, by a reload."""
    with check("systemctl reload with a good configuration: its semaphores are there"):
        container.run(
            f"sed -i 's/^FlexLM-Riviera = 5$/&\\n{SEMAPHORES}/' {CONFIGURATION} && systemctl reload semaphored"
        )
        until("the semaphores are there", lambda: '"many"' in farm.admin("status --json"))


def clean_install(container):
    with check("the service is active, enabled, and says that it is ready"):
        same(["active", "running", "enabled"], unit(container, "ActiveState", "SubState", "UnitFileState"))
    with check("the journal has no warning but that there is a new token for an admin"):
        run = unit(container, "InvocationID")
        of_it = f"_SYSTEMD_INVOCATION_ID={run} + INVOCATION_ID={run}"
        lines = container.run(f"journalctl --quiet --priority warning --output cat {of_it}")
        if len(lines.splitlines()) != 1 or f"{DATA}/admin-token" not in lines:
            raise Failed(lines)
    with check("the data directory is its user's alone, the token 0600, and it runs as that user"):
        modes = container.run(f"stat --format '%a %U' {DATA} {DATA}/admin-token {DATA}/semaphored.db {CONFIGURATION}")
        same(["700 semaphored", "600 semaphored", "600 semaphored", "644 root"], modes.splitlines())
        same("semaphored", container.run(f"stat --format %U /proc/{unit(container, 'MainPID')}").strip())
    with check("exposure is 1.1 at most"):
        said = container.run("systemd-analyze security --no-pager --threshold=11 semaphored.service")
        print(f"      {said.strip().splitlines()[-1]}")


def pages(container, system):
    """A minimal root may leave the manual out (dpkg's path-exclude), so the package's list says whether it is there."""
    with check("each program and the configuration have a manual page, and each shell its completions"):
        listed = container.run(
            {"debian": "dpkg -L", "rpm": "rpm -ql"}[system] + " semaphored semaphorectl"
        ).splitlines()
        for page in ("man8/semaphored.8", "man5/semaphored.toml.5", "man1/semaphorectl.1"):
            same(True, f"/usr/share/man/{page}.gz" in listed)
        zsh = {"debian": "vendor-completions", "rpm": "site-functions"}[system]
        for completions in (
            "bash-completion/completions/semaphorectl",
            f"zsh/{zsh}/_semaphorectl",
            "fish/vendor_completions.d/semaphorectl.fish",
        ):
            container.run(f"test -s /usr/share/{completions}")


def schema(container, number=None):
    """The version of the database's schema; while the service is stopped a number makes it another."""
    set_it = "" if number is None else f"= {number}"
    with contextlib.closing(
        sqlite3.connect(f"file:{container.root}{DATA}/semaphored.db?mode=rw", uri=True)
    ) as database:
        return (database.execute(f"PRAGMA user_version {set_it}").fetchone() or [number])[0]


def refuses_the_schema(container):
    def tried():
        return unit(container, "ActiveState", "Result", "ExecMainStatus", "NRestarts") == [
            "failed",
            "exit-code",
            "65",
            "0",
        ]

    until("it has ended with 65, and is not tried again", tried)
    said = container.run("journalctl --quiet --boot --unit semaphored --lines 20 --output cat")
    for words in ("schema version 1000", "newer"):
        if words not in said:
            raise Failed(said)


def way_in(container, farm):
    with check("semaphorectl run through NGINX and TLS"):
        farm.job("one").until_held().finish()
    with check("a wrong token is refused, there too"):
        environment = {**NGINX, "SEMAPHORE_TOKEN": "sem_abcd_0123456789012345678901234567890123456789"}
        said = container.run("semaphorectl status", environment, 77, errors=True)
        if "token" not in said:
            raise Failed(said)
    with check("an unknown authority is refused"):
        container.run(
            "semaphorectl status",
            {"SEMAPHORE_URL": NGINX["SEMAPHORE_URL"], "SEMAPHORE_TOKEN": farm.token()},
            69,
            errors=True,
        )


def long_wait(container, farm):
    with check("semaphorectl doctor: the longest wait goes through NGINX"):
        said = container.run("semaphorectl doctor", {**NGINX, "SEMAPHORE_TOKEN": farm.token()}, errors=True)
        if "50s survive" not in said:
            raise Failed(said)


@contextlib.contextmanager
def survival(farm, what, through=None):
    """A holder and a waiter of one permit live through what is done meanwhile: nobody loses a place, and the permit goes on."""
    with check(f"{what}: a holder and a waiter survive it"):
        holder = farm.job("one", through).until_held()
        waiter = farm.job("one", through).until_waiting()
        before = farm.state("one")
        yield
        farm.until_ready()
        same(before, farm.state("one"))
        if waiter.said("held"):
            raise Failed("two hold the same permit")
        holder.finish()
        waiter.until_held().finish()


def restarts(container, farm):
    with survival(farm, "systemctl restart"):
        container.run("systemctl restart semaphored")
    with survival(farm, "a reload of NGINX"):
        container.run("systemctl reload nginx")
    with survival(farm, "a restart of NGINX"):
        container.run("systemctl restart nginx")
    with survival(farm, "SIGKILL, after which systemd starts it again"):
        killed(container, "KILL", 20)


def watchdog(container, farm):
    with survival(farm, "SIGSTOP, after which the watchdog has it started again"):
        killed(container, "STOP", 90)
        journal = container.run("journalctl --boot --unit semaphored --output cat")
        if "Watchdog timeout" not in journal:
            raise Failed(journal)


def killed(container, sent, seconds):
    before = unit(container, "MainPID", "NRestarts")
    container.run(f"systemctl kill --signal {sent} --kill-who main semaphored")

    def again():
        state, process_id, count = unit(container, "ActiveState", "MainPID", "NRestarts")
        return state == "active" and process_id != before[0] and int(count) == int(before[1]) + 1

    until("systemd has started it again", again, seconds)


def wrong_configuration(container, farm):
    with check("systemctl reload with a wrong configuration: all stays as it is, and the status says why"):
        container.run(
            f"cp {CONFIGURATION} /root/right.toml && sed -i 's/^one = 1$/one = 1\\ntwo = \"many\"/' {CONFIGURATION}"
        )
        before = unit(container, "MainPID")
        container.run("semaphored --check-config", code=78, errors=True)
        container.run("systemctl reload semaphored")
        until("the status says it", lambda: "was not read again" in unit(container, "StatusText"))
        print(f"      {unit(container, 'StatusText')}")
        same([before, "active"], unit(container, "MainPID", "ActiveState"))
        same(1, json.loads(farm.admin("status one --json"))["capacity"])
        container.run(f"cp /root/right.toml {CONFIGURATION} && systemctl reload semaphored")
        until("the status is well again", lambda: "was not read again" not in unit(container, "StatusText"))


def presence(container, farm):
    with check("a waiting client that is killed is absent at once, and passed over (netlink works in the sandbox)"):
        through = {"SEMAPHORE_URL": LOCAL}
        holder = farm.job("one", through).until_held()
        first = farm.job("one", through).until_waiting()
        second = farm.job("one", through).until_waiting()
        same("present", first.claim()["presence"])
        first.kill()
        until("its claim is absent", lambda: first.claim()["presence"] == "absent", 3)
        holder.finish()
        second.until_held().finish()
        farm.admin(f"revoke {first.claim()['id']} --reason 'its client is gone'")


def callback(container, farm, clients):
    with check("a callback is delivered, signed with a credential of systemd"):
        port = 9080
        output = container.directory / "receiver.out"
        with output.open("wb") as file:
            receiver = container.start_beside(sys.executable, clients, "listen", port, stdout=file)
        try:
            until("the receiver listens", lambda: "listening" in output.read_text())
            container.run(f"""set -e
                cat >>{CONFIGURATION} <<'END'

[callbacks.targets.hook]
preset = "generic"
url = "http://127.0.0.1:{port}/hook"
secret_credential = "hook"
allow_cidrs = ["127.0.0.0/8"]
END
                echo "whsec_$(openssl rand -base64 32)" | install -m 600 /dev/stdin /etc/semaphored/hook.key
                install -D -m 644 /dev/stdin /etc/systemd/system/semaphored.service.d/hook.conf <<'END'
[Service]
LoadCredential=hook:/etc/semaphored/hook.key
END
                systemctl daemon-reload
                systemctl restart semaphored""")
            claim = farm.admin("acquire one --callback hook").strip()
            calls = until("it is called", lambda: [line for line in output.read_text().splitlines() if claim in line])
            sent = json.loads(calls[0])
            key = container.run("cat /etc/semaphored/hook.key").strip().removeprefix("whsec_")
            same(signature(key, sent["headers"], sent["body"]), sent["headers"]["webhook-signature"])
            until("the delivery is in the record", lambda: "204" in farm.admin(f"deliveries {claim}"))
            farm.admin(f"release {claim}")
        finally:
            receiver.kill()
            receiver.wait()


def signature(key, headers, body):
    """That of Standard Webhooks."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}"
    digest = hmac.new(base64.b64decode(key), signed.encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def isolated(container, farm):
    # Whether the kernel refuses other addresses then cannot be seen everywhere: control groups of version 1 have no filter.
    with check("isolated.conf: systemd denies other addresses, and the service serves"):
        if "0.0.0.0/0" not in (denied := unit(container, "IPAddressDeny")) and denied != "any":
            raise Failed(f"IPAddressDeny={denied}")
        farm.until_ready()
        farm.job("one").until_held().finish()
        container.run("systemd-analyze security --no-pager --threshold=11 semaphored.service")


def knocked(container, clients, what):
    """What becomes of new connections meanwhile."""
    knocker = container.start_beside(
        sys.executable, clients, "knock", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with knocker:
        knocker.stdout.readline()
        container.run(what)
        counts = json.loads(knocker.communicate(timeout=60)[0])
    print(f"      answers to new connections during `{what}`: {counts}")
    # Who comes too late is told so by the service, or by a connection that is closed.
    if left := set(counts) - {"200", "503", "closed", "refused", "ConnectionResetError"}:
        raise Failed(f"{left} of {counts}")
    return counts


def own_socket(container, farm, clients):
    with check("without semaphored.socket, a restart refuses connections for a moment"):
        counts = knocked(container, clients, "systemctl restart semaphored")
        if not counts.get("refused") or not counts.get("200"):
            raise Failed(str(counts))
        farm.until_ready()


def socket_unit(container, farm, clients):
    with check("with semaphored.socket enabled, connections queue over a restart and none is refused"):
        same("enabled", container.run("systemctl is-enabled semaphored.socket").strip())
        counts = knocked(container, clients, "systemctl restart semaphored")
        if counts.get("refused") or not counts.get("200"):
            raise Failed(str(counts))
    with survival(farm, "systemctl restart with semaphored.socket"):
        container.run("systemctl restart semaphored")
    with check("a service that was stopped is started by the next connection"):
        container.run("systemctl stop semaphored 2>/dev/null")
        same("inactive", unit(container, "ActiveState"))
        farm.until_ready()
        same("active", unit(container, "ActiveState"))


def socket_given_up(container):
    with check("with semaphored.socket, a service that cannot start has systemd give the socket up"):
        container.run(f"cp {CONFIGURATION} /root/right.toml && echo 'wrong' >>{CONFIGURATION}")
        container.run("systemctl restart semaphored", code=1, errors=True)

        def given_up():
            container.start_beside("curl", "--silent", "--max-time", 1, f"{LOCAL}/readyz").wait(10)
            said = container.run("systemctl show semaphored.socket --property=ActiveState --property=Result")
            return "ActiveState=failed" in said and "Result=trigger-limit-hit" in said

        until("the socket has failed", given_up)
        container.run(f"cp /root/right.toml {CONFIGURATION}")


def socket_is_back(container, farm):
    with check("the socket is back, with the service on it"):
        farm.until_ready()
        same("active", container.run("systemctl is-active semaphored.socket").strip())


def crowd(container, farm, clients, count=2000):
    with check(
        f"it stops with {count} requests that wait, all of them answered, in time; and their places are there after it"
    ):
        held = farm.admin("acquire many --ttl 1h").strip()
        output = container.directory / "crowd.out"
        command = ["env", f"SEMAPHORE_TOKEN={farm.token()}", sys.executable, clients, "wait", count, "many"]
        with output.open("wb") as file:
            waiters = container.start_beside(*command, stdout=file)
        try:
            until("all wait", lambda: farm.semaphore("many")["waiting"] == count, 60)
            began = time.monotonic()
            container.run("systemctl stop semaphored")
            took = time.monotonic() - began
            waiters.wait(60)
        finally:
            waiters.kill()
            waiters.wait()
        said = json.loads(output.read_text().splitlines()[-1])
        print(f"      stopped in {took:.1f} s; answers: {said}")
        same({"503": count}, said)
        same(["success", "inactive"], unit(container, "Result", "ActiveState"))
        if took > 10:
            raise Failed("that was long")
        container.run("systemctl start semaphored")
        same(count, farm.semaphore("many")["waiting"])
        farm.admin(f"release {held}")


def reboot(container, farm):
    with check("a reboot: the service is there by itself, holders and queue are as before, the permit goes on"):
        holder = farm.admin("acquire one --ttl 2h --id reboot-holder").strip()
        # As clients on other machines are: no signal tells them to leave the queue.
        variables = {**NGINX, "SEMAPHORE_TOKEN": farm.token()}
        options = " ".join(f"--setenv={name}={value}" for name, value in variables.items())
        wait = f"systemd-run --quiet --property KillSignal=SIGKILL {options} semaphorectl acquire one --ttl 2h --holder farm --id "
        waiters = ["reboot-waiter-1", "reboot-waiter-2"]
        for number, waiter in enumerate(waiters, 2):
            container.run(wait + waiter)
            until("it waits", lambda number=number: len(farm.state("one")) == number)
        before = farm.state("one")
        container.reboot()
        farm.until_ready()
        same(before, farm.state("one"))
        container.run(wait + waiters[0])
        farm.admin(f"release {holder}")
        until(
            "the first of the queue holds it",
            lambda: (waiters[0], "held") in [(c["id"], c["state"]) for c in farm.claims("one")],
        )
        farm.admin(f"release {' '.join(waiters)}")


def backed_up(container, farm):
    with check("the backup is its owner's alone, and after the restore the service has the same semaphores"):
        same("600", container.run("stat --format %a /var/backups/semaphored/semaphored.db").strip())
        same("semaphored", container.run(f"stat --format %U {DATA}/semaphored.db").strip())
        same(1, farm.semaphore("one")["capacity"])
        farm.job("one").until_held().finish()


def journal(container):
    """For whoever reads why it failed."""
    for command in (
        "systemctl --no-pager --lines 0 status semaphored semaphored.socket nginx",
        "journalctl --no-pager --boot --lines 80",
        "tail -n 20 /var/log/nginx/semaphored.error.log",
    ):
        print(f"\n== {command}")
        done = subprocess.run(
            container.inside(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
        )
        print(re.sub(r"sem_\w+", "sem_…", done.stdout))
