"""The real neutron-openvswitch-agent."""

import re
from pathlib import Path

from harness.drivers import Driver
from harness.services import PHYSNET_FLAT, PHYSNET_VLAN, Services
from harness.shell import HarnessError, Process, wait_until
from harness.switch import INTEGRATION_BRIDGE, Switch

HOST = "compute-1"
PHYSICAL_BRIDGES = {PHYSNET_VLAN: "br-phys", PHYSNET_FLAT: "br-flat"}

_START_S = 120
# The agent removes what another process of it has left at the end of an iteration, once it knows ports.
_CLEANED = re.compile(r"iteration:\d+ - cleanup stale flows")
_COMPLETED = re.compile(r"iteration:(\d+) completed")

_CONF = """\
[DEFAULT]
host = {host}
[ovs]
integration_bridge = {bridge}
tunnel_bridge = br-tun
local_ip = 127.0.0.1
bridge_mappings = {mappings}
ovsdb_connection = {database}
datapath_type = netdev
of_listen_address = 127.0.0.1
of_connect_timeout = 60
[agent]
tunnel_types = vxlan
polling_interval = 1
report_interval = 10
root_helper = env
explicitly_egress_direct = {egress_direct}
[securitygroup]
enable_security_group = true
firewall_driver = {driver}
{more}
"""


class Agent:
    """One agent; it is restarted as the machine's service manager would after a crash: killed, then
    started. (It takes up to 40 s to obey SIGTERM.)"""

    def __init__(self, venv: Path, services: Services, switch: Switch, logs: Path) -> None:
        self._venv = venv
        self.services = services
        self._switch = switch
        self._logs = logs
        self._process: Process | None = None
        self._started = 0

    @property
    def log(self) -> Path:
        """Of the agent that runs, or ran last."""
        return self._logs / f"agent-{self._started}.log"

    @property
    def pid(self) -> int:
        """Of the one that runs."""
        if self._process is None:
            raise HarnessError("Neutron's agent does not run")
        return self._process.pid

    def start(self, driver: Driver, *, egress_direct: bool = False) -> None:
        """Starts it, and does not wait for anything."""
        conf = self.services.etc / "openvswitch_agent.ini"
        conf.write_text(
            _CONF.format(
                host=HOST,
                bridge=INTEGRATION_BRIDGE,
                mappings=",".join(f"{network}:{bridge}" for network, bridge in PHYSICAL_BRIDGES.items()),
                database=self._switch.database,
                egress_direct=str(egress_direct).lower(),
                driver=driver.name,
                more=driver.agent_options(),
            )
        )
        self._started += 1
        programs = self._venv / "bin"
        environment = self._switch.environment
        # Its helpers are found by `env`, in place of sudo.
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        arguments = [str(programs / "neutron-openvswitch-agent")]
        arguments += ["--config-file", str(self.services.etc / "neutron.conf"), "--config-file", str(conf)]
        self._process = Process("neutron-openvswitch-agent", arguments, self.log, environment)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def wait_for_iteration(self) -> None:
        """Until its loop has gone round once: bridges are set up and the firewall driver is loaded."""
        self._wait("first iteration", lambda text: _COMPLETED.search(text))

    def wait_until_clean(self) -> None:
        """Until all ports are done and flows of an earlier agent are gone; on a host with ports only."""
        self._wait("clean-up after the restart", lambda text: _CLEANED.search(text))

    def restart(self, driver: Driver, *, egress_direct: bool = False) -> None:
        """Kills it, starts it, and waits until it has settled."""
        self.kill()
        self.start(driver, egress_direct=egress_direct)
        self.wait_until_clean()

    def _wait(self, what: str, holds) -> None:
        def seen() -> bool:
            if self._process is not None:
                self._process.must_be_alive()
            return bool(holds(self.log.read_text(errors="replace")))

        wait_until(f"agent: {what}", seen, _START_S)
