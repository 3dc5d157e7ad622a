"""The firewall drivers that the checks are run with."""

from pathlib import Path
from typing import Any, Protocol

from harness.daemon import Daemon
from harness.shell import HarnessError
from harness.switch import INTEGRATION_BRIDGE, Switch


class Driver(Protocol):
    """What differs between firewall drivers."""

    name: str
    """As `firewall_driver` has it."""
    has_daemon: bool
    """Whether a process beside the agent enforces the policy."""

    writer: str
    """Whose flows filter, as `sgflow explain` calls them."""

    def agent_options(self) -> str:
        """More lines of the agent's configuration."""

    def looking_options(self) -> list[str]:
        """How the commands of sgflow find what filters here."""

    def start(self) -> None:
        """Starts what runs beside the agent, before the agent."""

    def kill(self) -> None:
        """Ends it as a crash would; what is in the switch stays."""

    def stop(self) -> None:
        """Ends it in good order; what is in the switch stays."""

    def policy(self) -> dict[str, Any]:
        """The policy that it enforces, as a document."""

    def log(self) -> Path | None:
        """What it logged, if it has a process."""


class Openvswitch:
    """Neutron's own driver: all in the agent. The control: what fails with it, and is not told to differ,
    is a fault of the checks."""

    name = "openvswitch"
    has_daemon = False
    writer = "neutron"

    def agent_options(self) -> str:
        return ""

    def looking_options(self) -> list[str]:
        return ["--api-socket", "/nonexistent"]

    def start(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def policy(self) -> dict[str, Any]:
        raise HarnessError("the driver tells nobody what it enforces")

    def log(self) -> Path | None:
        return None


class Sgflow:
    """Ours: the package in the agent hands the policy to the daemon, which keeps the switch."""

    name = "sgflow"
    has_daemon = True
    writer = "sgflow"

    def __init__(self, program: Path, switch: Switch, rundir: Path, logs: Path) -> None:
        self._daemon = Daemon(program, switch, INTEGRATION_BRIDGE, rundir, logs / "sgflow.log")

    def agent_options(self) -> str:
        return f"[SGFLOW]\nsocket = {self._daemon.socket}\n"

    def looking_options(self) -> list[str]:
        return ["--config", str(self._daemon.settings)]

    def start(self) -> None:
        self._daemon.start()

    def kill(self) -> None:
        self._daemon.kill()

    def stop(self) -> None:
        self._daemon.stop()

    def policy(self) -> dict[str, Any]:
        return self._daemon.policy()

    def log(self) -> Path | None:
        return self._daemon.log
