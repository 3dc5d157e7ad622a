"""What is done with the package, one step after the other, and what must be so after each."""

import functools
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

from package_check.guests import Guests, policy
from package_check.machine import Machine
from package_check.shell import Failed, wait_until
from package_check.traces import differences, traces

# linux/capability.h
_CAP_NET_ADMIN = 1 << 12
_UNITS = ("sgflow.service", "sgflow-publisher.service")
# Points of `systemd-analyze security`, in tenths: what is exposed more fails.
_MOST_EXPOSED = 22
_READABLE = [
    "/",
    "/etc",
    "/etc/sgflow",
    "/usr",
    "/var",
    "/var/lib",
    "/run",
    "/root",
    "/home",
    "/proc/sys/net",
]
_WRITABLE = ["/run/sgflow", "/var/lib/sgflow", "/var/log/sgflow", "/tmp"]
_LOG = "/var/log/sgflow/security.jsonl"
_SECRET = "correct-horse-battery-staple"
# The port vm3, behind a bridge of its own as Nova plugs it.
_HYBRID_BRIDGE = [
    "ip link add qbrvm3 up type bridge",
    "ip link add tapvm3 up master qbrvm3 type veth peer name guest",
    "ip link add qvbvm3 up master qbrvm3 type veth peer name qvovm3",
    "ip link set qvovm3 up",
    "ovs-vsctl add-port br-int qvovm3 -- set interface qvovm3 external_ids:iface-id=vm3",
]
_PAGES = (
    "sgflow",
    "sgflow-agent",
    "sgflow-apply",
    "sgflow-policy-put",
    "sgflow-support-bundle",
    "sgflow.toml",
)


class Scenario:
    """A machine, guests on it, and the package."""

    def __init__(self, machine: Machine, guests: Guests, package: str) -> None:
        self._machine = machine
        self._guests = guests
        self._package = package
        self._root = Path(machine.root)
        self._before = self._traces()

    def steps(self) -> list[Callable[[], None]]:
        """In this order; each leaves what the next begins with."""
        return [
            self.installed_it_does_nothing,
            self.its_pages_and_completions_are_found,
            self.its_units_are_tight,
            self.enabled_it_enforces,
            self.the_daemon_has_one_capability_and_no_more,
            self.who_may_ask,
            self.a_changed_document_is_in_force,
            self.what_is_killed_comes_back,
            self.what_is_dropped_is_told_and_logged,
            self.a_support_bundle_has_everything_and_no_secret,
            self.an_upgrade_restarts_it,
            self.stopped_it_leaves_the_flows,
            self.a_hybrid_host_takes_a_drop_in,
            self.removed_it_leaves_the_flows,
            self.purged_it_leaves_no_trace,
        ]

    def _traces(self) -> dict[str, str]:
        return traces(self._machine.proc(1) / "root")

    def _run(self, *argv: str, check: bool = True) -> str:
        return self._machine.run(*argv, check=check)

    def _succeeds(self, *argv: str) -> bool:
        try:
            self._run(*argv)
        except Failed:
            return False
        return True

    def _is(self, unit: str, verb: str) -> str:
        return self._run("systemctl", verb, unit, check=False).strip()

    def _property(self, name: str, unit: str = "sgflow.service") -> str:
        return self._run("systemctl", "show", f"--property={name}", "--value", unit).strip()

    def _converged(self) -> None:
        try:
            wait_until("converged", lambda: self._status().startswith("converged"))
        except Failed as late:
            journal = self._run("journalctl", "--unit=sgflow", "--no-pager", "--lines=40", check=False)
            raise Failed(f"{late}: {self._status()}\n{journal}") from None

    def _status(self) -> str:
        return self._run("sgflow", "status", check=False)

    def _status_of_member(self, group: str) -> str:
        somebody = ("setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups")
        return self._run(*somebody, "sgflow", "status", check=False)

    def _written(self, pid: str, places: list[str]) -> list[str]:
        """Those of the places that a process finds where it can write."""
        inside = ("nsenter", f"--target={pid}", "--mount", "test", "-w")
        return [place for place in places if self._succeeds(*inside, place)]

    def installed_it_does_nothing(self) -> None:
        """Installed, nothing is started or enabled, and the default settings are good."""
        self._run("apt-get", "install", "--yes", "--no-install-recommends", self._package)
        version = self._run("sgflow", "--version")
        _expect(re.fullmatch(r"sgflow \d+\.\d+\.\d+\n", version) is not None, f"--version says {version!r}")
        for unit in _UNITS:
            states = (self._is(unit, "is-enabled"), self._is(unit, "is-active"))
            _expect(states == ("disabled", "inactive"), f"{unit} is {states}")
        for group in ("sgflow", "sgflow-policy"):
            self._run("getent", "group", group)
        told = self._status()
        _expect("no sgflow agent answers at /run/sgflow/sgflow.sock" in told, f"status says {told!r}")
        conffiles = self._run("dpkg-query", "--show", "--showformat=${Conffiles}", "sgflow")
        for path in ("/etc/sgflow/sgflow.toml", "/etc/sgflow/policy.d/README"):
            _expect(path in conffiles, f"{path} is no conffile")

    def its_pages_and_completions_are_found(self) -> None:
        """man(1) finds and formats each page, and bash completes the command."""
        for page in _PAGES:
            text = self._run("env", "LC_ALL=C.UTF-8", "MANWIDTH=80", "man", "--warnings", page)
            _expect("NAME" in text and "warning" not in text, f"man {page} prints\n{text[:500]}")
        settings = self._run("env", "LC_ALL=C.UTF-8", "MANWIDTH=80", "man", "5", "sgflow.toml")
        _expect("agent.firewall_driver" in settings, "sgflow.toml(5) has not all keys")
        words = "source /usr/share/bash-completion/bash_completion; _completion_loader sgflow; "
        words += "COMP_WORDS=(sgflow sup); COMP_CWORD=1; _sgflow sgflow sup sgflow; echo ${COMPREPLY[@]}"
        completed = self._run("bash", "-c", words)
        _expect("support-bundle" in completed.split(), f"`sgflow sup` is completed to {completed!r}")
        for path in ("zsh/vendor-completions/_sgflow", "fish/vendor_completions.d/sgflow.fish"):
            self._run("test", "-s", f"/usr/share/{path}")
        self._run("test", "-s", "/usr/share/doc/sgflow/copyright")

    def its_units_are_tight(self) -> None:
        """systemd has nothing to complain of in the units, and they expose little."""
        self._run("systemd-analyze", "verify", *_UNITS)
        for unit in _UNITS:
            self._run("systemd-analyze", "security", "--no-pager", f"--threshold={_MOST_EXPOSED}", unit)

    def enabled_it_enforces(self) -> None:
        """Enabled and started, it says that it is ready, and just what the policy admits passes."""
        self._guests.expect("a secure bridge without flows", p80=False, p81=False)
        self._machine.write("/etc/sgflow/policy.d/policy.yaml", policy([80]))
        self._run("systemctl", "enable", "--now", "sgflow")
        _expect(self._is("sgflow", "is-active") == "active", "it is not active")
        self._converged()
        told = "the unit's status line is the agent's"
        wait_until(told, lambda: self._property("StatusText").startswith("converged"), within_s=10)
        self._guests.expect("enforced", p80=True, p81=False)

    def the_daemon_has_one_capability_and_no_more(self) -> None:
        """The kernel's view of the daemon: capabilities, filter of system calls, read-only files."""
        process = self._machine.proc(int(self._property("MainPID")))
        status = dict(
            line.split(":\t", 1)
            for line in (process / "status").read_text(encoding="utf-8").splitlines()
            if ":\t" in line
        )
        for field in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
            _expect(int(status[field], 16) == _CAP_NET_ADMIN, f"{field} is {status[field]}")
        wanted = {"NoNewPrivs": "1", "Seccomp": "2"}
        _expect({field: status[field] for field in wanted} == wanted, f"not so: {wanted}")
        pid = self._property("MainPID")
        written = self._written(pid, _READABLE)
        _expect(not written, f"the daemon can write {written}")
        written = self._written(pid, _WRITABLE)
        _expect(written == _WRITABLE, f"of {_WRITABLE} the daemon can write {written}")
        refused = ("permission denied", "not permitted", "read-only file system")
        journal = self._run("journalctl", "--unit=sgflow", "--no-pager", "--output=cat")
        wrong = [
            line
            for line in journal.splitlines()
            if "ERROR" in line or any(word in line.lower() for word in refused)
        ]
        _expect(not wrong, f"the daemon has logged {wrong}")

    def who_may_ask(self) -> None:
        """Members of group sgflow may ask the daemon, and nobody else can even connect."""
        socket = self._run("stat", "--format=%A %U %G", "/run/sgflow/sgflow.sock").strip()
        _expect(socket == "srw-rw---- root sgflow", f"the socket is {socket}")
        told = self._status_of_member("sgflow")
        _expect(told.startswith("converged"), f"a member is told {told!r}")
        told = self._status_of_member("nogroup")
        _expect("Permission denied" in told, f"a stranger is told {told!r}")

    def a_changed_document_is_in_force(self) -> None:
        """A document that is written anew is read by the daemon within its read-only system."""
        self._machine.write("/etc/sgflow/policy.d/policy.yaml", policy([80, 81]))
        self._guests.expect("81 admitted too", p80=True, p81=True)
        self._machine.write("/etc/sgflow/policy.d/policy.yaml", policy([80]))
        self._guests.expect("80 alone again", p80=True, p81=False)

    def what_is_killed_comes_back(self) -> None:
        """A daemon that is killed is started anew, and what is in force stays meanwhile."""
        killed = self._property("MainPID")
        self._run("systemctl", "kill", "--signal=KILL", "sgflow")
        self._guests.expect("killed", p80=True, p81=False)
        wait_until("another daemon", lambda: self._property("MainPID") not in (killed, "0"))
        self._converged()

    def what_is_dropped_is_told_and_logged(self) -> None:
        """The security-group log reaches the journal, and a file in the one directory that is for it."""
        for path in ("journal", _LOG):
            self._machine.write("/etc/sgflow/sgflow.env", f"SGFLOW_SECURITY_LOG_PATH={path}\n")
            self._run("systemctl", "restart", "sgflow")
            self._converged()
            wait_until("drops are counted", self._is_counted)
            wait_until(f"the log in {path}", functools.partial(self._is_logged, path))
        self._run("rm", "/etc/sgflow/sgflow.env")
        self._run("systemctl", "restart", "sgflow")
        self._converged()

    def _is_counted(self) -> bool:
        _expect(not self._guests.reaches(81), "81 is admitted")
        return "no-rule" in self._run("sgflow", "drops")

    def _is_logged(self, path: str) -> bool:
        if path == "journal":
            fields = ("SGFLOW_EVENT=drop", "SGFLOW_DST_PORT=81", "SGFLOW_REASON=no-rule")
            lines = self._run("journalctl", "--no-pager", "--output=cat", *fields, check=False)
        else:
            lines = self._run("cat", path, check=False)
        told = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
        return any(line["event"] == "drop" and line.get("dst_port") == 81 for line in told)

    def a_support_bundle_has_everything_and_no_secret(self) -> None:
        """All parts are there, of which some come from the daemon, and a password of the settings in none."""
        url = f"rabbit://neutron:{_SECRET}@control:5672/"
        settings, bundle = "/root/neutron.toml", "/root/b.tar.gz"
        self._machine.write(
            settings, f'[policy]\nsource = "neutron-rpc"\n[neutron]\ntransport_url = "{url}"\n'
        )
        told = self._run("sgflow", "support-bundle", "--json", f"--config={settings}", f"--output={bundle}")
        missing = [part for part in json.loads(told)["parts"] if "missing" in part]
        _expect(not missing, f"not in it: {missing}")
        mode = self._run("stat", "--format=%a", bundle).strip()
        _expect(mode == "600", f"the file's mode is {mode}")
        parts = {}
        with tarfile.open(f"{self._machine.proc(1)}/root{bundle}") as archive:
            for member in archive.getmembers():
                parts[member.name.removeprefix("sgflow-support/")] = (
                    archive.extractfile(member).read().decode()
                )
        _expect("rabbit://control:5672/" in parts["settings.txt"], "the settings are not in it")
        _expect("sgflow agent" in parts["journal.txt"], "the daemon's log is not in it")
        with_secret = [name for name, text in parts.items() if _SECRET in text]
        _expect(not with_secret, f"the password is in {with_secret}")
        self._run("rm", bundle, settings)

    def an_upgrade_restarts_it(self) -> None:
        """A newer package in place of the running one: another daemon, and the same policy all the time."""
        old = self._property("MainPID")
        self._run("dpkg", "--install", self._package)
        _expect(self._property("MainPID") not in (old, "0"), "the old daemon still runs")
        _expect(self._is("sgflow", "is-enabled") == "enabled", "it is not enabled any more")
        self._converged()
        self._guests.expect("upgraded", p80=True, p81=False)

    def stopped_it_leaves_the_flows(self) -> None:
        """Stopped, what was in force stays, and no process or file of it in /run."""
        self._run("systemctl", "stop", "sgflow")
        _expect(self._property("Result") == "success", f"it ended with {self._property('Result')}")
        self._guests.expect("stopped", p80=True, p81=False)
        self._run("sh", "-c", "! test -e /run/sgflow")
        self._run("systemctl", "start", "sgflow")
        self._converged()

    def a_hybrid_host_takes_a_drop_in(self) -> None:
        """With the drop-in for hybrid hosts and no capability more nftables holds a port, then flows again."""
        self._run("systemctl", "stop", "sgflow")
        for command in _HYBRID_BRIDGE:
            self._run(*command.split())
        directory = "/etc/systemd/system/sgflow.service.d"
        self._run("mkdir", "--parents", directory)
        self._run("cp", "/usr/share/doc/sgflow/examples/hybrid.conf", directory)
        default = self._run("cat", "/etc/sgflow/sgflow.toml")
        self._machine.write("/etc/sgflow/sgflow.toml", '[agent]\nfirewall_driver = "nftables"\n')
        self._run("systemctl", "daemon-reload")
        self._run("systemctl", "start", "sgflow")
        # The other two are on no hybrid bridge, which it says.
        wait_until("one port is held", lambda: self._status().startswith("degraded (1 ports"))
        bounding = self._property("CapabilityBoundingSet")
        _expect(bounding == "cap_net_admin", f"the bounding set is {bounding}")
        held = self._run("nft", "list", "table", "bridge", "sgflow")
        _expect("tapvm3" in held, f"nftables does not hold the port:\n{held}")
        self._run("systemctl", "stop", "sgflow")
        self._run("nft", "flush", "ruleset")
        self._run("ovs-vsctl", "del-port", "qvovm3")
        self._machine.write("/etc/sgflow/sgflow.toml", default)
        self._run("rm", "--recursive", directory)
        self._run("systemctl", "daemon-reload")
        self._run("systemctl", "start", "sgflow")
        self._converged()
        self._guests.expect("flows again", p80=True, p81=False)

    def removed_it_leaves_the_flows(self) -> None:
        """Removed while it runs: the daemon ends, the settings stay, and so does what was in force."""
        self._run("apt-get", "remove", "--yes", "sgflow")
        self._run("sh", "-c", "! pidof sgflow")
        self._run("test", "-e", "/etc/sgflow/sgflow.toml")
        self._guests.expect("removed", p80=True, p81=False)

    def purged_it_leaves_no_trace(self) -> None:
        """Purged, all files are what they were before, and the switch filters on."""
        self._run("apt-get", "purge", "--yes", "sgflow")
        self._guests.expect("purged", p80=True, p81=False)
        left = differences(self._before, self._traces())
        _expect(not left, "\n".join(left))
        units = self._run("systemctl", "list-units", "--all", "--no-legend", "sgflow*").strip()
        _expect(not units, f"systemd still knows {units}")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)
