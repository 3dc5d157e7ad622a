"""What one driver is measured on: a private switch, the agent's process, and the daemon if there is one."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.daemon import Daemon
from harness.shell import HarnessError, run, tail, wait_until
from harness.switch import Switch

from benchmark import cpu

BRIDGE = "br-int"
# By the name or class that Neutron's loader takes.
DRIVERS = {
    "openvswitch": "openvswitch",
    "sgflow": "sgflow",
    "empty": "benchmark.empty.EmptyFirewallDriver",
}
# Nobody is asked over RPC. What is not said here is as Neutron has it.
_CONF = """\
[DEFAULT]
transport_url = fake:/
[oslo_concurrency]
lock_path = {rundir}
[ovs]
ovsdb_connection = {database}
[securitygroup]
firewall_driver = {driver}
[SGFLOW]
socket = {socket}
"""
# Where the agent listens for the switch (of_listen_port).
_OPENFLOW_PORT = 6633
_START_S = 60
_ANSWER_S = 300
# The driver's threads, the switch and the daemon may go on when the agent is done. All are done when in so
# long a time they take less than this.
_QUIET_S = 0.4
_QUIET_CPU_S = 0.012


@dataclass
class Cost:
    """Seconds of processor time by whom, and of wall time until the agent was done."""

    cpu: dict[str, float]
    taken: float
    flows: int = 0

    @property
    def total(self) -> float:
        return sum(self.cpu.values())


@dataclass
class Flow:
    cookie: str
    created: float
    """On the clock of time.monotonic()."""
    actions: str


@dataclass
class Rewritten:
    """What became of the flows that were there, by table."""

    kept: dict[int, int] = field(default_factory=dict)
    rewritten: dict[int, int] = field(default_factory=dict)
    added: dict[int, int] = field(default_factory=dict)
    removed: dict[int, int] = field(default_factory=dict)
    flow_mods: int | None = None
    """Those that the daemon says it has sent."""


class Rig:
    def __init__(self, driver: str, members: int, program: Path, venv: Path, logs: Path) -> None:
        self.driver = driver
        self._members = members
        self._venv = venv
        self._logs = logs
        # Short, for the names of Unix sockets may have 107 bytes at most.
        self.rundir = Path(tempfile.mkdtemp(prefix="snb-"))
        self._switch = Switch(self.rundir, logs, "--enable-dummy")
        self._daemon: Daemon | None = None
        if driver == "sgflow":
            self._daemon = Daemon(program, self._switch, BRIDGE, self.rundir, logs / "sgflow.log")
        self._agent: subprocess.Popen[str] | None = None

    def __enter__(self) -> Rig:
        try:
            self._switch.start()
            if self._daemon is not None:
                self._daemon.start()
            self.start_agent()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill_agent()
        if self._daemon is not None:
            self._daemon.kill()
        self._switch.stop()
        shutil.rmtree(self.rundir, ignore_errors=True)

    def start_agent(self) -> None:
        """Its process, which then waits for orders. Python's start and the configuration are in no figure."""
        conf = self.rundir / "openvswitch_agent.ini"
        conf.write_text(
            _CONF.format(
                rundir=self.rundir,
                database=self._switch.database,
                driver=DRIVERS[self.driver],
                socket=self.rundir / "sgflow.sock",
            )
        )
        arguments = ["--config-file", str(conf), "--members", str(self._members)]
        program = "from benchmark import agent; agent.main()"
        environment = self._switch.environment | {"PYTHONPATH": str(Path(__file__).parents[1])}
        with self._agent_log.open("ab") as log:
            self._agent = subprocess.Popen(
                [str(self._venv / "bin/python"), "-B", "-W", "ignore", "-c", program, *arguments],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._answer()

    def kill_agent(self) -> None:
        """As a crash would end it, with what it has forked."""
        if self._agent is not None:
            os.killpg(self._agent.pid, 9)
            self._agent.wait()
            self._agent = None

    def wait_for_switch(self) -> None:
        """Until the switch has connected to a new agent, which takes it up to eight seconds: Neutron's code
        asks for the connection over and over, without a pause, and all that time would be in its figure."""
        wait_until("the switch connects to the agent", _is_connected, _START_S)

    def order(self, do: str, **arguments: Any) -> None:
        if self._agent is None or self._agent.stdin is None:
            raise HarnessError("the agent is not started")
        self._agent.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._agent.stdin.flush()
        self._answer()

    def add_interfaces(self, interfaces: Iterable[tuple[str, str, str]]) -> None:
        """Names, ids and MACs, in one transaction. As os-vif does it, but in the switch alone."""
        arguments: list[str] = []
        for name, identity, mac in interfaces:
            arguments += ["--", "add-port", BRIDGE, name, "--", "set", "Interface", name, "type=dummy"]
            arguments += [f'external_ids:iface-id="{identity}"', f'external_ids:attached-mac="{mac}"']
            arguments += ["external_ids:iface-status=active"]
        self._switch.vsctl(*arguments)

    def measure(self, act: Callable[[], None]) -> Cost:
        """Until nobody works at it any more."""
        self._wait_until_quiet()
        before = self._used()
        started = time.monotonic()
        act()
        taken = time.monotonic() - started
        self._wait_until_quiet()
        after = self._used()
        return Cost({name: after[name] - before[name] for name in after}, taken, len(self._flows()))

    def flows_of(self, act: Callable[[], None]) -> tuple[Cost, Rewritten]:
        """Measures, and says what became of the flows."""
        before = self._flows()
        sent = self._daemon.flow_mods() if self._daemon is not None else 0
        started = time.monotonic()
        cost = self.measure(act)
        after = self._flows()
        changes = Rewritten()
        for key, flow in after.items():
            known = before.get(key)
            if known is None:
                count = changes.added
            # A flow that is added where it is already begins anew; one that is modified keeps its age.
            elif flow.created > started or (known.cookie, known.actions) != (flow.cookie, flow.actions):
                count = changes.rewritten
            else:
                count = changes.kept
            count[key[0]] = count.get(key[0], 0) + 1
        for table, _ in before.keys() - after.keys():
            changes.removed[table] = changes.removed.get(table, 0) + 1
        if self._daemon is not None:
            changes.flow_mods = self._daemon.flow_mods() - sent
        return cost, changes

    def idle(self, seconds: float) -> Cost:
        """What is taken when nothing is to be done."""
        self._wait_until_quiet()
        before = self._used()
        time.sleep(seconds)
        after = self._used()
        return Cost({name: after[name] - before[name] for name in after}, seconds, len(self._flows()))

    @property
    def _agent_log(self) -> Path:
        return self._logs / f"agent-{self.driver}.log"

    def _answer(self) -> None:
        if self._agent is None or self._agent.stdout is None:
            raise HarnessError("the agent is not started")
        ready, _, _ = select.select([self._agent.stdout], [], [], _ANSWER_S)
        if not ready:
            raise HarnessError(f"the agent has not answered within {_ANSWER_S} s")
        if not self._agent.stdout.readline():
            raise HarnessError(f"the agent ended: {tail(self._agent_log, 20)}")

    def _pids(self) -> dict[str, int]:
        pids = self._switch.pids
        if self._daemon is not None:
            pids["sgflow"] = self._daemon.pid
        return pids

    def _used(self) -> dict[str, float]:
        """The daemon is there with every driver, so that all have the same columns."""
        used = {name: sum(cpu.used(pid)) for name, pid in self._pids().items()}
        if self._agent is None:
            raise HarnessError("the agent is not started")
        agent = cpu.used(self._agent.pid)
        return {"sgflow": 0.0} | used | {"agent": agent.own, "programs": agent.programs}

    def _wait_until_quiet(self) -> None:
        deadline = time.monotonic() + _ANSWER_S
        used = sum(self._used().values())
        while True:
            time.sleep(_QUIET_S)
            now = sum(self._used().values())
            if now - used < _QUIET_CPU_S:
                return
            if time.monotonic() > deadline:
                raise HarnessError(f"{self.driver}: not quiet within {_ANSWER_S} s")
            used = now

    def _flows(self) -> dict[tuple[int, str], Flow]:
        """By table and match with priority."""
        # The agent allows 1.0 and 1.3; drivers may add others.
        dump = run(
            "ovs-ofctl", "-O", "OpenFlow13", "--no-names", "dump-flows", BRIDGE, env=self._switch.environment
        )
        now = time.monotonic()
        flows = {}
        for line in dump.splitlines():
            head, found, actions = line.strip().partition(" actions=")
            if not found:
                continue
            fields, _, match = head.rpartition(", ")
            told = dict(part.split("=", 1) for part in fields.split(", ") if "=" in part)
            created = now - float(told["duration"].removesuffix("s"))
            flows[int(told["table"]), match] = Flow(told["cookie"], created, actions)
        return flows


def _is_connected() -> bool:
    """Somebody is at the port where the agent listens, in this namespace (proc(5), /proc/net/tcp)."""
    listening, established = f":{_OPENFLOW_PORT:04X}", "01"
    connections = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return any(fields[1].endswith(listening) and fields[3] == established for fields in connections)
