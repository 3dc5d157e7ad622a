"""A firewall driver that does nothing: what is measured with it is Neutron's own share.

Neutron's `noop` will not do, since the agent leaves all of its work with groups out when it finds that class.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from neutron.agent import firewall


class EmptyFirewallDriver(firewall.FirewallDriver):
    provides_arp_spoofing_protection = True

    def __init__(self, integration_bridge) -> None:
        # By this the agent knows whom a change concerns.
        self._ports: dict[str, dict[str, Any]] = {}

    @property
    def ports(self) -> dict[str, dict[str, Any]]:
        return self._ports

    def prepare_port_filter(self, port: dict[str, Any]) -> None:
        self._ports[port["device"]] = port

    def update_port_filter(self, port: dict[str, Any]) -> None:
        self._ports[port["device"]] = port

    def remove_port_filter(self, port: dict[str, Any]) -> None:
        self._ports.pop(port["device"], None)

    def process_trusted_ports(self, port_ids: Iterable[str]) -> None:
        pass

    def remove_trusted_ports(self, port_ids: Iterable[str]) -> None:
        pass

    def update_security_group_rules(self, sg_id: str, rules: list[dict[str, Any]]) -> None:
        pass

    def update_security_group_members(self, sg_id: str, ips: dict[str, Any]) -> None:
        pass

    def security_group_updated(self, action_type, sec_group_ids, device_ids=None) -> None:
        pass

    def filter_defer_apply_on(self) -> None:
        pass

    def filter_defer_apply_off(self) -> None:
        pass
