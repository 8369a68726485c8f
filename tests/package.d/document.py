"""docs/install.md, run as it stands there.

A fenced block is `sh`, and a reader types all of it. Words after `sh` say for which system it is (`debian`, `rpm`,
`source`; all without one), and `elsewhere` that it cannot be run in the container: for each of these STAND_INS says why, and
what is run instead. No other code may be in the document, so that nothing in it is untried.
"""

import pathlib
import re

# The systems, and in which directory of the container a reader of their blocks is.
SYSTEMS = {"debian": "/root/packages", "rpm": "/root/packages", "source": "/root/semaphored"}
# What the shell of this reader has exported.
SHELL = "/root/exported"
# The text of a block: why it cannot be run in the container, and what is run there instead.
STAND_INS = {
    "dnf install ./semaphored-*.rpm ./semaphorectl-*.rpm\n": (
        "Debian has no dnf, and its RPM database knows nothing of systemd",
        "rpm -U --nodeps ./semaphored-*.rpm ./semaphorectl-*.rpm",
    ),
    "dnf upgrade ./semaphored-*.rpm ./semaphorectl-*.rpm\n": (
        "the same",
        "rpm -U --nodeps ./semaphored-*.rpm ./semaphorectl-*.rpm",
    ),
    "dnf remove semaphored semaphorectl\n": ("the same", "rpm -e semaphored semaphorectl"),
    "dnf install nginx openssl\n": ("Debian has no dnf; they are Debian's", "apt-get install nginx-light openssl"),
    "setsebool -P httpd_can_network_connect on\n": (
        "there is no SELinux in the container, which is looked at instead",
        "test ! -e /sys/fs/selinux/enforce",
    ),
    "firewall-cmd --permanent --add-service=https\nfirewall-cmd --reload\n": (
        "there is no firewall in the container, which is looked at instead",
        "! command -v firewall-cmd",
    ),
    "packaging/build\n": (
        "the container has no compilers: this test has run it before, on this machine, and its packages are here",
        "ls /root/packages/*.deb /root/packages/*.rpm",
    ),
    "cargo build --release\n": (
        "the same: the programs in the packages were built from this source",
        "install -D -t target/release /root/programs/*",
    ),
}


class Block:
    def __init__(self, section, words, text, line):
        self.section, self.text, self.line = section, text, line
        self.elsewhere = "elsewhere" in words
        self.systems = [word for word in words if word != "elsewhere"]
        if unknown := set(self.systems) - set(SYSTEMS):
            raise SystemExit(f"docs/install.md:{line}: nobody knows what {', '.join(unknown)} is")
        if self.elsewhere != (text in STAND_INS):
            raise SystemExit(
                f"docs/install.md:{line}: `elsewhere` and tests/package.d/document.py disagree about:\n{text}"
            )


class Document:
    def __init__(self, path):
        self.blocks = list(parse(path.read_text()))
        self.done = set()
        if unused := set(STAND_INS) - {block.text for block in self.blocks}:
            raise SystemExit(f"tests/package.d/document.py stands in for what docs/install.md has not: {unused}")

    def run(self, container, system, section):
        """Runs the blocks of a section that are for this system, in one shell as it were; what they wrote."""
        blocks = [
            block
            for block in self.blocks
            if block.section == section and (not block.systems or system in block.systems)
        ]
        if not blocks:
            raise SystemExit(f"docs/install.md has nothing in {section} for {system}")
        return "".join(self.run_block(container, system, block) for block in blocks)

    def run_block(self, container, system, block):
        self.done.add(block)
        commands = block.text
        if block.elsewhere:
            why, commands = STAND_INS[block.text]
            print(f"      docs/install.md:{block.line} is not run ({why}); instead: {commands}")
        else:
            print(
                f"      docs/install.md:{block.line}: {block.text.splitlines()[0]}{' …' * (block.text.count(chr(10)) > 1)}"
            )
        # What was exported is there in the next block.
        script = f"cd {SYSTEMS[system]}; [ ! -e {SHELL} ] || . {SHELL}; set -e\n{commands}\nexport -p >{SHELL}"
        return container.run(script, errors=True)

    def check_all_done(self):
        if left := [f"{block.line} ({block.section})" for block in self.blocks if block not in self.done]:
            raise SystemExit(f"no part of the test has run docs/install.md:{', '.join(left)}")


def parse(text):
    section, opened, words, lines = None, None, [], []
    for number, line in enumerate(text.splitlines(), 1):
        if opened:
            if line == "```":
                yield Block(section, words, "".join(lines), opened)
                opened = None
            else:
                lines.append(line + "\n")
        elif fence := re.fullmatch(r"```(\w+)(.*)", line):
            if fence[1] != "sh":
                raise SystemExit(f"docs/install.md:{number}: a block that is not sh is not tried")
            opened, words, lines = number, fence[2].split(), []
        elif line.startswith(("    ", "\t", "```", "~~~")):
            raise SystemExit(f"docs/install.md:{number}: code outside of a sh block is not tried")
        elif heading := re.fullmatch(r"#{2,} (.*)", line):
            section = heading[1]


def load(root):
    return Document(pathlib.Path(root) / "docs/install.md")
