"""Jobs in the container, and what the service says of them."""

import json
import subprocess

from container import Failed, until

LOCAL = "http://127.0.0.1:7420"
# As docs/install.md sets it up.
NGINX = {"SEMAPHORE_URL": "https://licences.example", "SSL_CERT_FILE": "/etc/ssl/semaphored/ca.pem"}


class Job:
    """`semaphorectl run SEMAPHORE`, with a command that says `held` and ends when finish() is called."""

    def __init__(self, farm, semaphore, holder, environment):
        self.farm, self.holder = farm, holder
        self.output = farm.container.directory / f"{holder}.out"
        work = "sh -c 'echo held; cat >/dev/null; echo finished'"
        command = f"echo $$; exec semaphorectl run {semaphore} --holder {holder} -- {work}"
        with self.output.open("wb") as output:
            self.process = farm.container.start_inside(
                command, environment, stdin=subprocess.PIPE, stdout=output, stderr=output
            )

    def said(self, word):
        return word in self.output.read_text().splitlines()

    def claim(self):
        """Its claim, if it has one."""
        return next((claim for claim in self.farm.claims() if claim.get("holder") == self.holder), None)

    def until_held(self):
        until(f"{self.holder} holds its permit", lambda: self.said("held"), 60)
        return self

    def until_waiting(self):
        until(f"{self.holder} waits", lambda: (self.claim() or {}).get("state") == "waiting")
        return self

    def kill(self):
        """As a machine that dies does: without a word to the service."""
        process_id = until("its process id", self.output.read_text).split()[0]
        self.farm.container.run(f"kill -KILL {process_id}")
        self.process.wait(20)

    def finish(self):
        """Lets its command end; everything has to have gone well."""
        self.process.stdin.close()
        code = self.process.wait(60)
        if code != 0 or not self.said("finished"):
            raise Failed(f"{self.holder} ended with {code}:\n{self.output.read_text()}")


class Farm:
    def __init__(self, container):
        self.container = container
        self.jobs = 0

    def token(self):
        return self.container.run("cat /var/lib/semaphored/admin-token").strip()

    def admin(self, arguments, code=0, url=LOCAL):
        environment = {"SEMAPHORE_URL": url, "SEMAPHORE_TOKEN": self.token()}
        return self.container.run(f"semaphorectl {arguments}", environment, code)

    def claims(self, semaphore=None):
        chosen = f"--semaphore {semaphore}" if semaphore else ""
        return json.loads(self.admin(f"claims --json {chosen}"))["claims"]

    def state(self, semaphore):
        """What must not change: who holds and who waits, in which order and with which fence."""
        names = ("id", "state", "position", "permits", "fences", "holder", "queued_at", "granted_at", "token_id")
        return [{name: claim.get(name) for name in names} for claim in self.claims(semaphore)]

    def semaphore(self, name):
        return json.loads(self.admin(f"status {name} --json"))

    def job(self, semaphore, through=None):
        """A job by NGINX unless told otherwise."""
        self.jobs += 1
        environment = {**(through or NGINX), "SEMAPHORE_TOKEN": self.token()}
        return Job(self, semaphore, f"job-{self.jobs}", environment)

    def until_ready(self, seconds=30):
        asked = ["curl", "--fail", "--silent", "--output", "/dev/null", f"{LOCAL}/readyz"]
        until("the service is ready", lambda: self.container.start_beside(*asked).wait(30) == 0, seconds)
