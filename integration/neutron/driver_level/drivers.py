"""The drivers that the scenarios are played with, and faults that show what a scenario is worth."""

import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.shell import HarnessError, Process, run, wait_until
from harness.switch import Switch
from sgflow_neutron.client import Client, Unavailable

HOST = "compute-1"
# `docs/pipeline.md`: the first bytes of the cookies of flows that the daemon holds.
_OURS = "cookie=0x5367000000000000/0xffff000000000000"
_START_S = 20
_FLAPPING_S = 0.1
_CONF = """\
[agent]
firewall_driver = "openvswitch"
integration_bridge = "{bridge}"
host = "{host}"
[ovsdb]
connection = "{database}"
[policy]
source = "neutron-driver"
[api]
socket = "{socket}"
"""


@dataclass(frozen=True)
class Driver:
    """One that Neutron loads by its name."""

    name: str
    loaded: str
    """What `firewall_driver` says: an entry point, or a class."""
    has_daemon: bool = False
    fault: Callable[[Switch, str], "Fault"] | None = None
    """Goes on beside a scenario."""


class Fault:
    """Takes all flows of the daemon out, again and again: what is open closes, and what must not be touched
    is written anew."""

    def __init__(self, switch: Switch, bridge: str) -> None:
        self._switch = switch
        self._bridge = bridge
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def _go(self) -> None:
        while not self._ended.wait(_FLAPPING_S):
            with suppress(HarnessError):
                run(
                    "ovs-ofctl",
                    "-O",
                    "OpenFlow14",
                    "del-flows",
                    self._bridge,
                    _OURS,
                    env=self._switch.environment,
                )

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


DRIVERS = {
    driver.name: driver
    for driver in (
        Driver("sgflow", "sgflow", has_daemon=True),
        Driver("openvswitch", "openvswitch"),
        Driver("open", "noop"),
        Driver("hub", "driver_level.faults.Hub"),
        Driver("shut", "driver_level.faults.Shut"),
        Driver("stuck", "driver_level.faults.Stuck", has_daemon=True),
        Driver("flapping", "sgflow", has_daemon=True, fault=Fault),
    )
}
# The subtle ones first, for a scenario is done with when one of them has made it fail.
FAULTS = ("stuck", "flapping", "open", "hub", "shut")


class Daemon:
    """`sgflow agent`, for one bridge."""

    def __init__(self, program: Path, switch: Switch, bridge: str, rundir: Path, logs: Path) -> None:
        self._program = program
        self._switch = switch
        self._socket = rundir / "sgflow.sock"
        self._conf = rundir / "sgflow.toml"
        self.log = logs / f"sgflow-{bridge}.log"
        self._process: Process | None = None
        self._conf.write_text(
            _CONF.format(bridge=bridge, host=HOST, database=switch.database, socket=self._socket)
        )

    def start(self) -> None:
        arguments = [str(self._program), "agent", "--config", str(self._conf)]
        self._process = Process("sgflow agent", arguments, self.log, self._switch.environment)
        wait_until("sgflow agent answers", self._answers, _START_S, 0.02)

    def kill(self) -> None:
        """As a crash would; what is in the switch stays."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """In good order."""
        if self._process is not None:
            self._process.stop()

    def state(self) -> dict[str, Any]:
        """What it holds of what it was told, and how far that is in force."""
        return Client(str(self._socket)).state()

    def wait_until_told(self, within_s: float) -> None:
        """Until it has heard of a session and has put all of it in force."""

        def told() -> bool:
            with suppress(Unavailable):
                state = self.state()
                return (
                    state["sequence"] > 0
                    and state["applied"] == state["sequence"]
                    and state["waiting"] is None
                )
            return False

        wait_until("sgflow agent has the policy in force", told, within_s, 0.02)

    def flow_mods(self) -> int:
        """How many it has sent since it began."""
        arguments = ("status", "--config", str(self._conf), "--json")
        return json.loads(run(str(self._program), *arguments, env=self._switch.environment))["enforced"][
            "flow_mods"
        ]

    def _answers(self) -> bool:
        if self._process is not None:
            self._process.must_be_alive()
        with suppress(Unavailable):
            return bool(self.state())
        return False


def errors(log: Path) -> list[str]:
    """What a daemon's log complains of."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [line for line in text.splitlines() if re.search(r"\bERROR\b|panicked", line)]
