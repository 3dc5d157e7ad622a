# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""The hook on a real switch: a private Open vSwitch in a network namespace. Needs root and Open vSwitch."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
OVS = all(shutil.which(name) for name in ("ip", "ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"))


@unittest.skipUnless(os.geteuid() == 0 and OVS, "needs root and Open vSwitch")
@unittest.skipIf(os.environ.get("SGFLOW_EVENTLET"), "once, on native threads")
class RealSwitch(unittest.TestCase):
    def setUp(self) -> None:
        self.run_directory = pathlib.Path(tempfile.mkdtemp(prefix="sns-"))
        self.addCleanup(shutil.rmtree, self.run_directory)
        self.namespace = f"sns{os.getpid()}"
        self.environment = {
            **os.environ,
            **{f"OVS_{name}DIR": str(self.run_directory) for name in ("RUN", "LOG", "DB")},
        }
        # Cleanups run then, as they do after Control-C.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        self.addCleanup(subprocess.run, ["ip", "netns", "delete", self.namespace], check=True)
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "lo", "up"], check=True)

    def start(self, *command: str) -> subprocess.Popen:
        log = (self.run_directory / f"{pathlib.Path(command[0]).name}.out").open("a")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command], env=self.environment, stdout=log, stderr=log
        )
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process: subprocess.Popen) -> None:
        process.kill()
        process.wait()

    def start_vswitchd(self) -> subprocess.Popen:
        return self.start(
            "ovs-vswitchd", f"unix:{self.run_directory}/db.sock", "--pidfile", "--log-file", "-vconsole:off"
        )

    def test_the_hook(self) -> None:
        database = str(self.run_directory / "conf.db")
        subprocess.run(["ovsdb-tool", "create", database, SCHEMA], check=True)
        self.start("ovsdb-server", database, f"--remote=punix:{self.run_directory}/db.sock", "-vconsole:off")
        vsctl = ["ovs-vsctl", f"--db=unix:{self.run_directory}/db.sock", "--retry", "--no-wait", "init"]
        subprocess.run(vsctl, check=True, timeout=10)
        vswitchd = self.start_vswitchd()
        checks = self.start(
            sys.executable, "-B", "-W", "ignore", "-c", "from tests import switch; switch.main()"
        )
        end = time.monotonic() + 40
        restart = self.run_directory / "restart"
        while checks.poll() is None and time.monotonic() < end:
            if restart.exists():
                restart.unlink()
                self.end(vswitchd)
                vswitchd = self.start_vswitchd()
            time.sleep(0.1)
        output = (self.run_directory / f"{pathlib.Path(sys.executable).name}.out").read_text()
        self.assertTrue(output.endswith("passed\n"), output)
