"""A private Open vSwitch with the userspace datapath: one such ovs-vswitchd fits in a network namespace."""

import os
from pathlib import Path

from harness.shell import Process, run, wait_until

INTEGRATION_BRIDGE = "br-int"
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_START_S = 30


class Switch:
    """ovsdb-server and ovs-vswitchd, in the foreground, so that they are children whose end is seen."""

    def __init__(self, rundir: Path, logs: Path, *options: str) -> None:
        """`options` are more of ovs-vswitchd's."""
        self._options = options
        self.rundir = rundir / "openvswitch"
        self._logs = logs
        self._ovsdb: Process | None = None
        self._vswitchd: Process | None = None

    @property
    def database(self) -> str:
        """As `ovs-vsctl --db` takes it."""
        return f"unix:{self.rundir / 'db.sock'}"

    @property
    def environment(self) -> dict[str, str]:
        """For programs that look for the switch by its run directory."""
        return os.environ | {
            "OVS_RUNDIR": str(self.rundir),
            "OVS_DBDIR": str(self.rundir),
            "OVS_LOGDIR": str(self.rundir),
        }

    def start(self) -> None:
        self.rundir.mkdir(parents=True)
        run("ovsdb-tool", "create", str(self.rundir / "conf.db"), _SCHEMA)
        arguments = ["ovsdb-server", str(self.rundir / "conf.db"), f"--remote=p{self.database}"]
        arguments += [f"--unixctl={self.rundir / 'ovsdb-server.ctl'}", "-vconsole:info"]
        self._ovsdb = Process("ovsdb-server", arguments, self._logs / "ovsdb-server.log", self.environment)
        wait_until("ovsdb-server", (self.rundir / "db.sock").exists, _START_S)
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()
        self.vsctl("set", "Open_vSwitch", ".", "external_ids:system-id=sgflow-neutron-test")

    def start_vswitchd(self) -> None:
        """Starts it and waits until it has read its database."""
        # The pid file tells others, sgflow among them, the name of the control socket.
        arguments = [
            "ovs-vswitchd",
            self.database,
            f"--pidfile={self.rundir / 'ovs-vswitchd.pid'}",
            "-vconsole:info",
            *self._options,
        ]
        self._vswitchd = Process("ovs-vswitchd", arguments, self._logs / "ovs-vswitchd.log", self.environment)
        # Without --no-wait, ovs-vsctl returns when the switch has taken over what it says.
        self.vsctl("add", "Open_vSwitch", ".", "external_ids", f"started={self._vswitchd.pid}")

    @property
    def pids(self) -> dict[str, int]:
        """Of the processes that are started, by name."""
        return {process.name: process.pid for process in (self._ovsdb, self._vswitchd) if process is not None}

    def kill_vswitchd(self) -> None:
        """As a crash would end it: its connections and caches die with it."""
        if self._vswitchd is not None:
            self._vswitchd.kill()

    def stop(self) -> None:
        for process in (self._vswitchd, self._ovsdb):
            if process is not None:
                process.kill()

    def vsctl(self, *arguments: str) -> str:
        return run(
            "ovs-vsctl", f"--db={self.database}", f"--timeout={_START_S}", *arguments, env=self.environment
        )

    def dump_flows(self, bridge: str, match: str = "") -> list[str]:
        """The flows of a bridge, one a line."""
        arguments = [
            "ovs-ofctl",
            "-O",
            "OpenFlow14",
            "--no-stats",
            "dump-flows",
            bridge,
            *([match] if match else []),
        ]
        return [
            line.strip() for line in run(*arguments, env=self.environment).splitlines() if "cookie=" in line
        ]

    def control(self, *command: str) -> str:
        """Says something to ovs-vswitchd's control socket."""
        pid = (self.rundir / "ovs-vswitchd.pid").read_text().strip()
        return run(
            "ovs-appctl", "-t", str(self.rundir / f"ovs-vswitchd.{pid}.ctl"), *command, env=self.environment
        )
