"""The firewall drivers that the checks are run with."""

from pathlib import Path
from typing import Protocol

from harness.daemon import Daemon
from harness.switch import INTEGRATION_BRIDGE, Switch


class Driver(Protocol):
    """What differs between firewall drivers."""

    name: str
    """As `firewall_driver` has it."""
    has_daemon: bool
    """Whether a process beside the agent enforces the policy."""

    def agent_options(self) -> str:
        """More lines of the agent's configuration."""

    def start(self) -> None:
        """Starts what runs beside the agent, before the agent."""

    def kill(self) -> None:
        """Ends it as a crash would; what is in the switch stays."""

    def stop(self) -> None:
        """Ends it in good order; what is in the switch stays."""

    def log(self) -> Path | None:
        """What it logged, if it has a process."""


class Openvswitch:
    """Neutron's own driver: all in the agent. The control: what fails with it, and is not told to differ,
    is a fault of the checks."""

    name = "openvswitch"
    has_daemon = False

    def agent_options(self) -> str:
        return ""

    def start(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def log(self) -> Path | None:
        return None


class Sgflow:
    """Ours: the package in the agent hands the policy to the daemon, which keeps the switch."""

    name = "sgflow"
    has_daemon = True

    def __init__(self, program: Path, switch: Switch, rundir: Path, logs: Path) -> None:
        self._daemon = Daemon(program, switch, INTEGRATION_BRIDGE, rundir, logs / "sgflow.log")

    def agent_options(self) -> str:
        return f"[SGFLOW]\nsocket = {self._daemon.socket}\n"

    def start(self) -> None:
        self._daemon.start()

    def kill(self) -> None:
        self._daemon.kill()

    def stop(self) -> None:
        self._daemon.stop()

    def log(self) -> Path | None:
        return self._daemon.log
