# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""The hook on a real Open vSwitch, over the agent's own OpenFlow connection.

test_switch.py runs this in a network namespace, as a process of its own: the controller that Neutron brings
lives as long as its process.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import time

from neutron.conf import common as common_conf
from neutron.conf.agent import securitygroups_rpc as security_groups_conf
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import base_oskenapp, br_int
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main as of_main
from neutron_lib.plugins.ml2 import ovs_constants
from os_ken.base import app_manager
from oslo_config import cfg

from sgflow_neutron import config
from sgflow_neutron.driver import SgflowFirewallDriver

BRIDGE = "br-sns"
HOOK = "priority=65000 actions=resubmit(,100)"
FLOOR = "priority=3 actions=resubmit(,100)"


class Controller(base_oskenapp.BaseNeutronAgentOSKenApp):
    """What os-ken looks for in this module: Neutron's application, without the agent that it starts."""


def flows() -> dict[str, str]:
    """Match and actions of the flows of table 60, with their cookies, oldest first."""
    text = subprocess.check_output(
        ["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", BRIDGE, "table=60"], text=True
    )
    found = re.findall(r"cookie=(\w+), duration=([\d.]+)s, .*?(priority=\d+.*)", text)
    return {flow: cookie for cookie, _, flow in sorted(found, key=lambda flow: -float(flow[1]))}


def new_bridge(controller: Controller) -> br_int.OVSIntegrationBridge:
    """As an agent that starts sets it up."""
    bridge = br_int.OVSIntegrationBridge(BRIDGE, datapath_type="netdev", os_ken_app=controller)
    bridge.create()
    bridge.set_secure_mode()
    bridge.setup_controllers(cfg.CONF)
    bridge.setup_default_table()
    return bridge


def main() -> None:
    run = pathlib.Path(os.environ["OVS_RUNDIR"])
    security_groups_conf.register_securitygroups_opts()
    common_conf.register_core_common_config_opts()
    config.register(cfg.CONF)
    cfg.CONF([], project="neutron")
    cfg.CONF.set_override("ovsdb_connection", f"unix:{run}/db.sock", "OVS")
    cfg.CONF.set_override("socket", f"{run}/sgflow.sock", "SGFLOW")
    of_main.init_config()
    manager = app_manager.AppManager.get_instance()
    manager.load_apps(["os_ken.app.ofctl.service", "tests.switch"])
    manager.instantiate_apps(**manager.create_contexts())
    (controller,) = (app for app in manager.applications.values() if type(app).__name__ == "Controller")

    first = new_bridge(controller)
    driver = SgflowFirewallDriver(integration_bridge=first)
    cookie = flows()[HOOK]
    assert int(cookie, 16) == driver._hook.cookie and int(cookie, 16) in first.reserved_cookies, cookie
    driver.close()
    print("installed", flows())

    second = new_bridge(controller)
    driver = SgflowFirewallDriver(integration_bridge=second)
    assert flows()[HOOK] != cookie, "an agent that starts takes the hook over"
    second.cleanup_flows()
    assert {HOOK, FLOOR} <= flows().keys(), "it outlives the cleaning after the first iteration"
    print("taken over and cleaned", flows())

    (run / "restart").touch()
    deadline = time.monotonic() + 60
    while (status := second.check_canary_table()) != ovs_constants.OVS_RESTARTED:
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
    assert flows() == {}, "an empty bridge is a closed one"
    second.setup_default_table()
    assert list(flows())[:2] == [FLOOR, HOOK], "both are older than NORMAL"
    print("after a restart of Open vSwitch", flows())
    driver.close()
    print("passed", flush=True)
    # The threads of the controller end with the process, and only so.
    os._exit(0)
