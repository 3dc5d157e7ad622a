# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""A driver that the agent's code has loaded by its name, a daemon and a bridge, new for each test."""

from __future__ import annotations

import json
import pathlib
import shutil
import tempfile
import time
import unittest
from typing import Any, Callable

from neutron.conf import common as common_conf
from neutron.conf.agent import securitygroups_rpc as security_groups_conf
from neutron_lib.callbacks import events, registry, resources
from oslo_config import cfg

import sgflow_neutron.driver as driver_module
from sgflow_neutron import config, session
from tests.calls import Agent, Cloud, allow_out, port, rule
from tests.fakes import FakeBridge, FakeDaemon

DATA = pathlib.Path(__file__).parent / "data"


def sample(name: str) -> list[Any]:
    """The arguments of a call that was captured from an agent of 29.0.0; a set is marked as one."""
    return json.loads((DATA / f"{name}.json").read_text(), object_hook=_sets)["args"]


def _sets(value: dict[str, Any]) -> Any:
    if value.keys() != {"__set__"}:
        return value
    return {tuple(entry) if isinstance(entry, list) else entry for entry in value["__set__"]}


def restart_of_open_vswitch(bridge: FakeBridge) -> None:
    """As the agent handles it: the bridge is empty, its defaults go in, then drivers are told."""
    bridge.switch.flows.clear()
    bridge.setup_default_table(enable_openflow_dhcp=False)
    registry.publish(resources.AGENT, events.OVS_RESTARTED, None, payload=None)


class DriverTest(unittest.TestCase):
    """`web` may be reached on port 80 by anyone, on all ports by itself, and by offices."""

    apply_timeout = 5

    def setUp(self) -> None:
        directory = tempfile.mkdtemp(prefix="sgflow-")
        self.addCleanup(shutil.rmtree, directory)
        security_groups_conf.register_securitygroups_opts()
        common_conf.register_core_common_config_opts()
        config.register(cfg.CONF)
        self.configure("SGFLOW", "socket", f"{directory}/sgflow.sock")
        self.configure("SGFLOW", "apply_timeout", self.apply_timeout)
        self.quicken(driver_module, "CHECK_INTERVAL", 0.05)
        self.quicken(session, "RETRY_INTERVAL", 0.05)

        self.daemon = FakeDaemon(f"{directory}/sgflow.sock")
        self.addCleanup(self.daemon.stop)
        self.addCleanup(lambda: self.assertEqual([], self.daemon.errors))
        self.bridge = FakeBridge()
        self.cloud = Cloud()
        self.cloud.address_groups["offices"] = ["192.0.2.0/24", "2001:db8::/32"]
        self.cloud.groups["web"] = [
            *allow_out(),
            rule("ingress", "tcp", 80, cidr="0.0.0.0/0"),
            rule("ingress", group="web"),
            rule("ingress", group="web", version="IPv6"),
            rule("ingress", "tcp", 22, address_group="offices"),
        ]
        self.cloud.add(
            port("vm1", "fa:16:3e:00:00:01", ["10.0.0.1", "fd00::1"], ["web"], [("10.9.0.0/24", None)]),
            port("vm2", "fa:16:3e:00:00:02", ["10.0.0.2"], ["web"]),
        )

    def configure(self, group: str, name: str, value: Any) -> None:
        self.addCleanup(cfg.CONF.clear_override, name, group)
        cfg.CONF.set_override(name, value, group)

    def quicken(self, module, name: str, value: float) -> None:
        self.addCleanup(setattr, module, name, getattr(module, name))
        setattr(module, name, value)

    def start_agent(self, daemon: bool = True, begun: bool = True) -> Agent:
        """`begun`: as after a first batch, in which the agent told of nothing."""
        if daemon:
            self.daemon.start()
        agent = Agent(self.cloud, self.bridge)
        self.driver = agent.driver
        self.addCleanup(self.driver.close)
        if daemon and begun:
            self.driver._session.has_begun = True
            # What the tests count comes after it.
            self.wait_for(lambda: self.daemon.sequence == 1)
        return agent

    def wait_for(self, condition: Callable[[], Any], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "never happened")
            time.sleep(0.01)

    @property
    def last(self) -> dict[str, Any]:
        return self.daemon.changes[-1]
