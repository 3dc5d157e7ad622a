"""The firewall drivers that the checks are run with."""

import json
import socket
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Protocol

from harness.shell import HarnessError, Process, wait_until
from harness.switch import INTEGRATION_BRIDGE, Switch

_DAEMON_START_S = 30


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

    def __init__(
        self, program: Path, host: str, switch: Switch, rundir: Path, logs: Path
    ) -> None:
        if not program.exists():
            raise HarnessError(f"{program} is not built: cargo build -p sgflow")
        self._program = program
        self._host = host
        self._switch = switch
        self._rundir = rundir
        self._socket = rundir / "sgflow.sock"
        self._conf = rundir / "sgflow.toml"
        self._log = logs / "sgflow.log"
        self._process: Process | None = None

    def agent_options(self) -> str:
        return f"[SGFLOW]\nsocket = {self._socket}\n"

    def start(self) -> None:
        self._conf.write_text(
            self._CONF.format(
                bridge=INTEGRATION_BRIDGE,
                host=self._host,
                database=self._switch.database,
                socket=self._socket,
            )
        )
        arguments = [str(self._program), "agent", "--config", str(self._conf)]
        self._process = Process("sgflow agent", arguments, self._log, self._switch.environment)
        wait_until("sgflow agent answers", self._answers, _DAEMON_START_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def log(self) -> Path | None:
        return self._log

    def _answers(self) -> bool:
        if self._process is not None:
            self._process.must_be_alive()
        return bool(self._state())

    def _state(self) -> dict[str, Any]:
        connection = _UnixConnection(self._socket)
        try:
            connection.request("GET", "/v1/neutron-driver")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
