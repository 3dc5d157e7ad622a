# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""A cloud of few words, and the agent's own code calling a driver with what it tells.

`Cloud` holds groups, address groups and ports, and answers as the agent's cache does; `Agent` is Neutron's
SecurityGroupAgentRpc around a driver, so that each release makes its own calls, in its own order.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable

from neutron.agent import securitygroups_rpc
from neutron.api.rpc.callbacks import resources
from neutron_lib.callbacks import events, registry
from oslo_config import cfg

NETWORK = "11111111-0000-4000-8000-000000000001"


def ethertype(address: str) -> str:
    return f"IPv{ipaddress.ip_network(address, strict=False).version}"


def rule(
    direction: str,
    protocol: str | None = None,
    ports: tuple[int, int] | int | None = None,
    cidr: str | None = None,
    group: str | None = None,
    address_group: str | None = None,
    version: str | None = None,
) -> dict[str, Any]:
    """As the agent tells it: keys without a value are absent. `ports` is type and code for ICMP."""
    told: dict[str, Any] = {
        "direction": direction,
        "ethertype": version or (ethertype(cidr) if cidr else "IPv4"),
    }
    if protocol is not None:
        told["protocol"] = protocol
    if ports is not None:
        told["port_range_min"], told["port_range_max"] = ports if isinstance(ports, tuple) else (ports, ports)
    if cidr is not None:
        told["source_ip_prefix" if direction == "ingress" else "dest_ip_prefix"] = cidr
    if group is not None:
        told["remote_group_id"] = group
    if address_group is not None:
        told["remote_address_group_id"] = address_group
    return told


def allow_out() -> list[dict[str, Any]]:
    """What Neutron gives each new group."""
    return [rule("egress", version="IPv4"), rule("egress", version="IPv6")]


def port(
    port_id: str,
    mac_address: str,
    addresses: Iterable[str],
    groups: Iterable[str] = (),
    pairs: Iterable[tuple[str, str | None]] = (),
    security: bool = True,
    owner: str = "compute:nova",
    network: str = NETWORK,
) -> dict[str, Any]:
    """The agent's dict of a port: the object as it is in its cache, and what is added for drivers. It has no
    local VLAN."""
    return {
        "id": port_id,
        "project_id": "p1",
        "tenant_id": "p1",
        "name": "",
        "network_id": network,
        "mac_address": mac_address,
        "admin_state_up": True,
        "device_id": f"vm-{port_id}",
        "device_owner": owner,
        "status": "DOWN",
        "allowed_address_pairs": [
            {"port_id": port_id, "mac_address": mac or mac_address, "ip_address": address}
            for address, mac in pairs
        ],
        "bindings": [{"port_id": port_id, "host": "here", "vif_type": "ovs", "vnic_type": "normal"}],
        "fixed_ips": list(addresses),
        "security": {"id": port_id, "port_security_enabled": security},
        "security_group_ids": list(groups),
        "revision_number": 1,
        "security_groups": list(groups),
        "security_group_rules": [],
        "security_group_source_groups": [],
        "security_group_remote_address_groups": [],
        "device": port_id,
        "port_security_enabled": security,
    }


class Cloud:
    """Change its dicts as an API call would, then tell the Agent."""

    def __init__(self) -> None:
        self.groups: dict[str, list[dict[str, Any]]] = {}
        self.stateless: set[str] = set()
        self.address_groups: dict[str, list[str]] = {}
        self.ports: dict[str, dict[str, Any]] = {}

    def add(self, *ports: dict[str, Any]) -> None:
        self.ports.update((told["id"], told) for told in ports)

    def rules(self, group: str) -> list[dict[str, Any]]:
        return [dict(told, stateful=group not in self.stateless) for told in self.groups[group]]

    def members(self, group: str) -> set[tuple[str, str | None]]:
        if group in self.address_groups:
            return {(address, None) for address in self.address_groups[group]}
        members: set[tuple[str, str | None]] = set()
        for told in self.ports.values():
            if group in told["security_groups"]:
                members.update((address, told["mac_address"]) for address in told["fixed_ips"])
                members.update(
                    (pair["ip_address"], pair["mac_address"]) for pair in told["allowed_address_pairs"]
                )
        return members

    def get_secgroup_ids_for_address_group(self, address_group: str) -> set[str]:
        return {
            group
            for group, rules in self.groups.items()
            if any(told.get("remote_address_group_id") == address_group for told in rules)
        }

    def security_group_info_for_devices(self, _context, devices: Iterable[str]) -> dict[str, Any]:
        """What SecurityGroupAgentRpc asks its plugin for. Ports of the network itself, and such as are gone,
        are left out; so are members of an ethertype that no rule of these devices uses."""
        told: dict[str, dict[str, Any]] = {}
        groups: dict[str, list[dict[str, Any]]] = {}
        remotes: dict[str, dict[str, set]] = {}
        for device in devices:
            known = self.ports.get(device)
            if known is None or known["device_owner"].startswith("network:"):
                continue
            told[device] = {**known, "security_group_source_groups": []}
            for group in known["security_groups"]:
                groups[group] = self.rules(group)
                for each in groups[group]:
                    remote = each.get("remote_group_id")
                    if remote and remote not in told[device]["security_group_source_groups"]:
                        told[device]["security_group_source_groups"].append(remote)
                    remote = remote or each.get("remote_address_group_id")
                    if remote:
                        remotes.setdefault(remote, {}).setdefault(each["ethertype"], set())
        for remote, by_ethertype in remotes.items():
            for member in self.members(remote):
                if ethertype(member[0]) in by_ethertype:
                    by_ethertype[ethertype(member[0])].add(member)
        return {"devices": told, "security_groups": groups, "sg_member_ips": remotes}


class Agent:
    """neutron-openvswitch-agent as its firewall driver sees it, which it loads by its name."""

    def __init__(self, cloud: Cloud, integration_bridge, driver: str = "sgflow") -> None:
        cfg.CONF.set_override("firewall_driver", driver, "SECURITYGROUP")
        self.rpc = securitygroups_rpc.SecurityGroupAgentRpc(
            None, cloud, defer_refresh_firewall=True, integration_bridge=integration_bridge
        )
        self.driver = self.rpc.firewall

    def loop(self, added: Iterable[str] = (), updated: Iterable[str] = ()) -> None:
        """One iteration: interfaces that came, and ports of which the agent was told."""
        self.rpc.setup_port_filters(set(added), set(updated))

    def plug(self, *ports: str) -> None:
        self.loop(added=ports)

    def update(self, *ports: str) -> None:
        self.loop(updated=ports)

    def rules_changed(self, *groups: str) -> None:
        self.rpc.security_groups_rule_updated(groups)
        self.loop()

    def members_changed(self, *groups: str) -> None:
        self.rpc.security_groups_member_updated(groups)
        self.loop()

    def address_group_changed(self, address_group: str) -> None:
        self.rpc.address_group_updated(address_group)
        self.loop()

    def unplug(self, *ports: str) -> None:
        self.rpc.remove_devices_filter(list(ports))

    def delete(self, *ports: str) -> None:
        """A port of any host was deleted: first the push reaches the cache, then the loop goes over it."""
        for gone in ports:
            payload = events.DBEventPayload(None, resource_id=gone, states=(None,))
            registry.publish(resources.PORT, events.AFTER_DELETE, self, payload=payload)
        self.rpc.remove_devices_filter(list(ports))
