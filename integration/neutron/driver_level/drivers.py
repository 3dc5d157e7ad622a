"""The drivers that the scenarios are played with, and faults that show what a scenario is worth."""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness import daemon
from harness.shell import HarnessError, run, wait_until
from harness.switch import Switch

# `docs/pipeline.md`: the first bytes of the cookies of flows that the daemon holds.
_OURS = "cookie=0x5367000000000000/0xffff000000000000"
_FLAPPING_S = 0.1


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


class Daemon(daemon.Daemon):
    """`sgflow agent`, for one bridge."""

    def __init__(self, program: Path, switch: Switch, bridge: str, rundir: Path, logs: Path) -> None:
        super().__init__(program, switch, bridge, rundir, logs / f"sgflow-{bridge}.log")

    def wait_until_told(self, within_s: float) -> None:
        """Until it has heard of a session and has put all of it in force."""

        def told() -> bool:
            state = self.state()
            return (
                state["sequence"] > 0 and state["applied"] == state["sequence"] and state["waiting"] is None
            )

        wait_until("sgflow agent has the policy in force", told, within_s, 0.02)


def errors(log: Path) -> list[str]:
    """What a daemon's log complains of."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return [line for line in text.splitlines() if re.search(r"\bERROR\b|panicked", line)]
