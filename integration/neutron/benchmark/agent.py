"""The part of neutron-openvswitch-agent that has to do with its firewall driver, in a process of its own.

Neutron's own code: the integration bridge over native OpenFlow, the cache of what the server tells, and
SecurityGroupAgentRpc, which loads the driver by its name. Ours: the order of calls, which is that of the
agent's loop.

It reads orders, a line of JSON each, and answers each when it is done. Standard output is for that alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Iterable
from typing import TextIO

from neutron import privileged
from neutron.agent import resource_cache
from neutron.agent import securitygroups_rpc as agent_rpc
from neutron.agent.common import ovs_lib
from neutron.api.rpc.callbacks import resources
from neutron.api.rpc.handlers import securitygroups_rpc as server_rpc
from neutron.common import config as common_config
from neutron.conf.agent import common as agent_conf
from neutron.conf.agent import securitygroups_rpc as security_groups_conf
from neutron.conf.plugins.ml2.drivers import agent as ml2_agent_conf
from neutron.conf.plugins.ml2.drivers import ovs_conf
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import base_oskenapp, br_int
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main as of_main
from neutron_lib import context as neutron_context
from os_ken.base import app_manager
from oslo_config import cfg
from oslo_privsep import priv_context

from benchmark import cloud, names

BRIDGE = "br-int"
_CACHED = (
    resources.PORT,
    resources.SECURITYGROUP,
    resources.SECURITYGROUPRULE,
    resources.NETWORK,
    resources.ADDRESSGROUP,
)


class Controller(base_oskenapp.BaseNeutronAgentOSKenApp):
    """What os-ken looks for in this module: Neutron's application, without the agent that it starts."""


class Agent:
    """Orders are its public methods."""

    def __init__(self, controller: Controller, members: int) -> None:
        self._context = neutron_context.get_admin_context()
        self._bridge = br_int.OVSIntegrationBridge(BRIDGE, datapath_type="netdev", os_ken_app=controller)
        self._cache = resource_cache.RemoteResourceCache(_CACHED)
        self._cache._puller = cloud.Server(members)

    def begin(self) -> None:
        """The bridge, then the driver: as the agent's constructor has it."""
        self._bridge.create()
        self._bridge.set_secure_mode()
        self._bridge.setup_controllers(cfg.CONF)
        self._bridge.set_igmp_snooping_state(cfg.CONF.OVS.igmp_snooping_enable)
        self._bridge.setup_default_table()
        plugin = server_rpc.SecurityGroupServerAPIShim(self._cache)
        self._security_groups = agent_rpc.SecurityGroupAgentRpc(
            self._context, plugin, defer_refresh_firewall=True, integration_bridge=self._bridge
        )
        plugin.register_legacy_sg_notification_callbacks(self._security_groups)

    def plug(self, ports: list[int]) -> None:
        """Interfaces that the agent finds on the bridge: into the VLAN of their network, then filtered."""
        identities = {names.port_id(number) for number in ports}
        for interface in self._bridge.get_vifs_by_ids(identities).values():
            self._bind(interface)
        self._loop(added=identities)

    def activate(self, ports: list[int]) -> None:
        """The server has set ports up, and tells so: the agent looks at each of them again."""
        for number in ports:
            self._push(cloud.port(number, status="ACTIVE", revision=4))
        self._loop(updated=(names.port_id(number) for number in ports))

    def join(self, port: int) -> None:
        """A port of another host comes to the group."""
        self._push(cloud.port(port))
        self._loop()

    def leave(self, port: int) -> None:
        """It is deleted. The agent takes each deleted port for one of its own."""
        self._cache.record_resource_delete(self._context, resources.PORT, names.port_id(port))
        self._security_groups.remove_devices_filter([names.port_id(port)])
        self._loop()

    def add_rule(self, number: int) -> None:
        more = {"protocol": "tcp", "port_range_min": number, "port_range_max": number}
        self._push(cloud.rule(number, "ingress", "IPv4", **more))
        self._loop()

    def remove_rule(self, number: int) -> None:
        identity = cloud.rule(number, "ingress", "IPv4")["versioned_object.data"]["id"]
        self._cache.record_resource_delete(self._context, resources.SECURITYGROUPRULE, identity)
        self._loop()

    def clean(self) -> None:
        """What the agent does when it knows its ports: away with what another process of it has left."""
        self._bridge.cleanup_flows()

    def _bind(self, interface: ovs_lib.VifPort) -> None:
        """OVSNeutronAgent.port_bound, as far as it concerns the database."""
        name = interface.port_name
        other_config = self._bridge.db_get_val("Port", name, "other_config")
        other_config.update(
            net_uuid=cloud.NETWORK,
            network_type="vxlan",
            physical_network="None",
            segmentation_id=str(cloud.SEGMENT),
            tag=str(cloud.VLAN),
        )
        database = self._bridge.ovsdb
        with database.transaction() as change:
            change.add(database.db_set("Port", name, ("tag", cloud.VLAN)))
            change.add(database.db_clear("Port", name, "vlan_mode"))
            change.add(database.db_clear("Port", name, "trunks"))
        self._bridge.set_db_attribute("Port", name, "other_config", other_config)

    def _push(self, primitive: cloud.Primitive) -> None:
        told = cloud.as_object(primitive)
        self._cache.record_resource_update(self._context, primitive["versioned_object.name"], told)

    def _loop(self, added: Iterable[str] = (), updated: Iterable[str] = ()) -> None:
        self._security_groups.setup_port_filters(set(added), set(updated))


def _configure(path: str) -> None:
    """As the agent's own start has it."""
    common_config.register_common_config_options()
    agent_conf.register_root_helper()
    agent_conf.register_iptables_opts(cfg.CONF)
    agent_conf.register_agent_state_opts_helper(cfg.CONF)
    ml2_agent_conf.register_agent_opts()
    ovs_conf.register_ovs_agent_opts()
    security_groups_conf.register_securitygroups_opts()
    common_config.init(["--config-file", path])
    of_main.init_config()
    common_config.setup_logging()
    # We are root: what runs commands for the agent needs no sudo, it is forked, before there are threads.
    privileged.default.start(priv_context.Method.FORK)


def _controller() -> Controller:
    manager = app_manager.AppManager.get_instance()
    manager.load_apps(["os_ken.app.ofctl.service", "benchmark.agent"])
    manager.instantiate_apps(**manager.create_contexts())
    return next(app for app in manager.applications.values() if isinstance(app, Controller))


def _serve(answers: TextIO) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--members", type=int, required=True)
    options = parser.parse_args()
    _configure(options.config_file)
    agent = Agent(_controller(), options.members)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        getattr(agent, order.pop("do"))(**order)
        print("{}", file=answers, flush=True)


def main() -> None:
    # What else is printed is no answer, and belongs in the log.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    status = 1
    try:
        _serve(answers)
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        # The controller's threads end with the process, and only so.
        os._exit(status)
