"""Neutron's own firewall drivers, for Open vSwitch or for hybrid bridges, on a private switch, driven as neutron-openvswitch-agent drives them.

What it enforces is a policy document of sgflow. A port of it is local when an Interface of the bridge carries its id
(external_ids iface-id, and attached-mac with its MAC); the tag of that Port is its VLAN. Run it as root in the network
namespace of the switch: the drivers fork ovs-ofctl, conntrack, ipset, and iptables as PATH has it.

With --policy it enforces one document and ends, and the flows stay. Else it reads commands, a line each, and answers each
with a line of JSON:

    load FILE   reads a document and works out what the agent would give to the driver
    apply       gives it to the driver: every port the first time, then those that the change concerns
"""

import argparse
import json
import os
import sys
import threading
import time
import traceback

from neutron.agent.common import ovs_lib
from neutron.agent.linux import iptables_firewall
from neutron.agent.linux import utils
from neutron.agent.linux.openvswitch_firewall import firewall
from neutron.conf.agent import common as agent_conf
from neutron.conf.agent import securitygroups_rpc
from neutron.conf.plugins.ml2.drivers import agent as ml2_agent_conf
from neutron.conf.plugins.ml2.drivers import ovs_conf
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow import br_cookie
from neutron import privileged
from neutron_lib.plugins.ml2 import ovs_constants
from oslo_concurrency import lockutils
from oslo_config import cfg
from oslo_privsep import priv_context


class Bridge(br_cookie.OVSBridgeCookieMixin, ovs_lib.OVSBridge):
    """The bridge as the agent has it, as far as the driver uses it; it also counts what it hands to ovs-ofctl."""

    flow_mods = 0

    def run_ofctl(self, cmd, args, process_input=None):
        if cmd.endswith("-flows") and process_input:
            self.flow_mods += len(process_input.splitlines())
        return super().run_ofctl(cmd, args, process_input)


class Policy:
    """What the agent is told of a document: the arguments of the driver's methods."""

    def __init__(self, document, local):
        groups = {group["id"]: group for group in document["security_groups"]}
        self.rules = {group_id: rules_of(group) for group_id, group in groups.items()}
        self.sources = {
            group_id: {rule["remote_group_id"] for rule in rules if "remote_group_id" in rule}
            for group_id, rules in self.rules.items()
        }
        self.members = {group_id: {} for group_id in set().union(*self.sources.values())}
        # Families that some rule with that remote has: the server tells no other members.
        families = {
            (rule["remote_group_id"], rule["ethertype"])
            for rules in self.rules.values() for rule in rules if "remote_group_id" in rule
        }
        for port in document["ports"]:
            for ip in addresses_of(port):
                family = "IPv6" if ":" in ip else "IPv4"
                for group_id in port["security_groups"]:
                    if (group_id, family) in families:
                        self.members[group_id].setdefault(family, set()).add((ip, port["mac_address"]))
        self.ports = {port["id"]: self.port(port) for port in document["ports"] if port["id"] in local}

    def port(self, port):
        sources = set().union(*(self.sources[group_id] for group_id in port["security_groups"]))
        return {
            **port,
            "device": port["id"],
            "fixed_ips": addresses_of(port),
            "allowed_address_pairs": port.get("allowed_address_pairs", []),
            "security_group_source_groups": sorted(sources),
        }

    def changed(self, before):
        """The groups whose rules, those whose members, and the ports themselves that are otherwise than in `before`."""
        return (
            {group_id for group_id in self.rules if self.rules[group_id] != before.rules.get(group_id)},
            {group_id for group_id in self.members if self.members[group_id] != before.members.get(group_id)},
            {port_id for port_id, port in self.ports.items() if port != before.ports.get(port_id)},
        )

    def concerned(self, rules, members, ports):
        """The ports that the agent has filtered anew when these have changed."""
        return [
            port for port_id, port in self.ports.items()
            if port_id in ports or rules.intersection(port["security_groups"])
            or members.intersection(port["security_group_source_groups"])
        ]


def addresses_of(port):
    return [fixed_ip["ip_address"] for fixed_ip in port["fixed_ips"]]


def rules_of(group):
    """A group's rules as security_group_info_for_devices tells them."""
    rules = []
    for said in group["security_group_rules"]:
        names = ["direction", "ethertype", "port_range_min", "port_range_max", "remote_group_id"]
        rule = {name: said[name] for name in names if said.get(name) is not None}
        rule["stateful"] = group.get("stateful", True)
        if said.get("protocol") is not None:
            rule["protocol"] = str(said["protocol"])
        if said.get("remote_ip_prefix") is not None:
            prefix = "source_ip_prefix" if said["direction"] == "ingress" else "dest_ip_prefix"
            rule[prefix] = said["remote_ip_prefix"]
        rules.append(rule)
    return rules


class Agent:
    """The part of neutron-openvswitch-agent that gives work to the firewall driver."""

    def __init__(self, bridge):
        self.bridge = bridge
        self.driver = None
        # What the driver enforces, what it is to enforce, what has changed, and the ports that this concerns.
        self.before = None
        self.policy = None
        self.changed = (set(), set(), set())
        self.ports = []
        self.local = {port.vif_id: port.port_name for port in bridge.get_vif_ports()}

    def load(self, path):
        with open(path, encoding="utf-8") as file:
            self.policy = Policy(json.load(file), self.local)
        if self.before is None:
            self.ports = list(self.policy.ports.values())
        else:
            self.changed = self.policy.changed(self.before)
            self.ports = self.policy.concerned(*self.changed)
        return {"ports": len(self.ports)}

    def apply(self):
        ports = self.ports
        count = self.count()
        begun = time.monotonic()
        if self.driver is None:
            self.driver = self.start()
        else:
            self.tell_changes()
        self.driver.filter_defer_apply_on()
        groups = {group_id for port in ports for group_id in port["security_groups"]}
        remotes = {group_id for port in ports for group_id in port["security_group_source_groups"]}
        for group_id in sorted(groups):
            self.driver.update_security_group_rules(group_id, self.policy.rules[group_id])
        for group_id in sorted(remotes):
            self.driver.update_security_group_members(group_id, self.policy.members[group_id])
        for port in ports:
            # The driver writes into it.
            port = dict(port)
            if self.is_managed(port):
                self.driver.update_port_filter(port)
            else:
                self.driver.prepare_port_filter(port)
        self.driver.filter_defer_apply_off()
        taken = time.monotonic() - begun
        self.wait_for_conntrack()
        self.before = self.policy
        return {self.counted: self.count() - count, "taken": taken}

    def tell_changes(self):
        """What the agent does when the server says that groups or ports have changed."""
        rules, members, ports = self.changed
        if rules:
            self.driver.security_group_updated("sg_rule", rules)
        if members:
            self.driver.security_group_updated("sg_member", members)
        if ports:
            self.driver.security_group_updated("sg_member", [], ports)

    def wait_for_conntrack(self):
        """The driver leaves connections to a thread of its own, which takes orders in turn: this one is the last."""
        done = threading.Event()

        def devices():
            done.set()
            yield from ()

        self.driver.ipconntrack.delete_conntrack_state_by_rule(devices(), {})
        done.wait()


class OpenvSwitchAgent(Agent):
    """With the driver that makes flows."""

    counted = "flow_mods"

    def __init__(self, bridge):
        super().__init__(bridge)
        # What the agent does to the bridge and to a port before it comes to the firewall.
        bridge.add_protocols(*firewall.OVSFirewallDriver.REQUIRED_PROTOCOLS)
        bridge.add_flow(table=0, priority=0, actions=f"resubmit(,{ovs_constants.TRANSIENT_TABLE})")
        bridge.add_flow(table=ovs_constants.TRANSIENT_TABLE, priority=1, actions="normal")
        for name in self.local.values():
            tag = bridge.db_get_val("Port", name, "tag")
            config = {"tag": str(tag), "network_type": "vxlan"}
            bridge.set_db_attribute("Port", name, "other_config", config)

    def start(self):
        return firewall.OVSFirewallDriver(self.bridge)

    def is_managed(self, port):
        return self.driver.is_port_managed(port)

    def count(self):
        return self.bridge.flow_mods


class IptablesHybridAgent(Agent):
    """With the driver that makes rules of iptables and ipsets."""

    counted = "programs"

    def __init__(self, bridge):
        super().__init__(bridge)
        self.programs = 0
        execute = utils.execute

        def counting(*arguments, **options):
            self.programs += 1
            return execute(*arguments, **options)

        utils.execute = counting

    def start(self):
        return iptables_firewall.OVSHybridIptablesFirewallDriver()

    def is_managed(self, port):
        return port["device"] in self.driver.filtered_ports or port["device"] in self.driver.unfiltered_ports

    def count(self):
        return self.programs


AGENTS = {"openvswitch": OpenvSwitchAgent, "iptables_hybrid": IptablesHybridAgent}


def configure(database, rundir):
    """The agent's options, as they are without a configuration file."""
    agent_conf.register_root_helper()
    agent_conf.register_iptables_opts(cfg.CONF)
    agent_conf.register_agent_state_opts_helper(cfg.CONF)
    ml2_agent_conf.register_agent_opts()
    ovs_conf.register_ovs_agent_opts()
    securitygroups_rpc.register_securitygroups_opts()
    cfg.CONF([], project="neutron", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("ovsdb_connection", database, "OVS")
    lockutils.set_defaults(rundir)
    # We are root: what runs commands for the agent needs no sudo, it is forked. Now, before there are threads.
    privileged.default.start(priv_context.Method.FORK)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rundir", required=True, help="where ovs-vswitchd has its sockets")
    parser.add_argument("--db", required=True, help="where ovsdb-server listens, as unix:PATH")
    parser.add_argument("--bridge", default="br-int")
    parser.add_argument("--driver", choices=AGENTS, default="openvswitch")
    parser.add_argument("--policy", metavar="FILE", help="enforce this document and end")
    arguments = parser.parse_args()
    os.environ["OVS_RUNDIR"] = arguments.rundir
    configure(arguments.db, arguments.rundir)
    agent = AGENTS[arguments.driver](Bridge(arguments.bridge))
    for line in [f"load {arguments.policy}", "apply"] if arguments.policy else sys.stdin:
        command, _, path = line.strip().partition(" ")
        answer = agent.load(path) if command == "load" else agent.apply()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    status = 1
    try:
        main()
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        # A thread of the driver never ends, and sys.exit() waits for it.
        os._exit(status)
