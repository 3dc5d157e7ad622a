"""Drivers that do it wrong. Every scenario must fail with one of them, or it would show nothing."""

from typing import Any

from neutron.agent import firewall
from neutron_lib.plugins.ml2 import ovs_constants

from sgflow_neutron.driver import SgflowFirewallDriver


class Shut(firewall.NoopFirewallDriver):
    """Lets nothing pass."""

    provides_arp_spoofing_protection = True

    def __init__(self, integration_bridge: Any) -> None:
        integration_bridge.install_drop(table_id=ovs_constants.TRANSIENT_TABLE, priority=65000)


class Hub(firewall.NoopFirewallDriver):
    """Lets everything pass to everybody, whatever its VLAN."""

    provides_arp_spoofing_protection = True

    def __init__(self, integration_bridge: Any) -> None:
        _datapath, protocol, messages = integration_bridge._get_dp()
        everywhere = messages.OFPActionOutput(protocol.OFPP_ALL, 0)
        table = {"table_id": ovs_constants.TRANSIENT_TABLE}
        tagged = {"vlan_vid": (protocol.OFPVID_PRESENT, protocol.OFPVID_PRESENT)}
        integration_bridge.install_apply_actions(
            [messages.OFPActionPopVlan(), everywhere], priority=65001, **table, **tagged
        )
        integration_bridge.install_apply_actions([everywhere], priority=65000, **table)


class Stuck(SgflowFirewallDriver):
    """Puts the first batch in force, and nothing that comes later."""

    _done = False

    def _push(self) -> None:
        if not self._done:
            super()._push()
        self._done = self._done or self._session.has_begun
