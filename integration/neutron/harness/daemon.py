"""`sgflow agent`, as Neutron's agent has it beside it."""

import json
import socket
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from harness.shell import HarnessError, Process, wait_until
from harness.switch import Switch

HOST = "compute-1"
_START_S = 30
_CONF = """\
[agent]
firewall_driver = "openvswitch"
integration_bridge = "{bridge}"
host = "{host}"
[ovsdb]
connection = "{database}"
[policy]
{policy}
"""
BY_DRIVER = 'source = "neutron-driver"'
"""Lines of the settings: the policy comes from Neutron's agent."""


class Served:
    """`sgflow agent` in any role; its socket and settings are in a directory."""

    def __init__(
        self, program: Path, environment: Mapping[str, str], rundir: Path, log: Path, settings: str
    ) -> None:
        if not program.exists():
            raise HarnessError(f"{program} is not built: cargo build -p sgflow")
        self.socket = rundir / "sgflow.sock"
        self.log = log
        self._program = program
        self._environment = environment
        self.settings = rundir / "sgflow.toml"
        self._process: Process | None = None
        self.settings.write_text(f'{settings}\n[api]\nsocket = "{self.socket}"\n')

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Returns when it can be asked something."""
        arguments = [str(self._program), "agent", "--config", str(self.settings)]
        self._process = Process("sgflow agent", arguments, self.log, self._environment)
        wait_until("sgflow agent answers", self._answers, _START_S, 0.02)

    def kill(self) -> None:
        """As a crash would; what is in the switch stays."""
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """In good order; what is in the switch stays."""
        if self._process is not None:
            self._process.stop()

    def status(self) -> dict[str, Any]:
        """As `sgflow status` has it."""
        return self._ask("/v1/status")

    def faults(self) -> list[str]:
        """What is wrong, each with its reason."""
        return [f"{fault['object']}: {fault['reason']}" for fault in self.status()["faults"]]

    def _answers(self) -> bool:
        if self._process is not None:
            self._process.must_be_alive()
        return bool(self.status())

    def _ask(self, path: str) -> dict[str, Any]:
        connection = _UnixConnection(self.socket)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class Daemon(Served):
    """One for a bridge, whose database is the switch's."""

    def __init__(
        self,
        program: Path,
        switch: Switch,
        bridge: str,
        rundir: Path,
        log: Path,
        policy: str = BY_DRIVER,
        host: str = HOST,
    ) -> None:
        settings = _CONF.format(bridge=bridge, host=host, database=switch.database, policy=policy)
        super().__init__(program, switch.environment, rundir, log, settings)

    def state(self) -> dict[str, Any]:
        """What it holds of what it was told, and how far that is in force."""
        return self._ask("/v1/neutron-driver")

    def policy(self) -> dict[str, Any]:
        """What it is to enforce, as a document."""
        return self._ask("/v1/policy")

    def flow_mods(self) -> int:
        """How many it has sent since it began."""
        return self.status()["enforced"]["flow_mods"]


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
