# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""The one flow that leads every frame of the integration bridge into the firewall.

Table 60 of the agent ends in NORMAL at priority 1: without this flow every port is open. So it must be there
whenever the agent's own flows are, whether the daemon runs or not.

It stands there twice: before the flows of Neutron's own driver, and as a floor below them. While that driver is
taken over from, its flows filter until the daemon has everything in force, so neither is there yet; but before
the agent cleans them up both are.
"""

from __future__ import annotations

import functools

from neutron.plugins.ml2.drivers.openvswitch.agent import ovs_agent_extension_api
from neutron_lib.plugins.ml2 import ovs_constants

PRIORITY = 65000
# Above NORMAL (1) and the way out of Neutron's own driver (2), below the flows of ports (90, 100).
FLOOR = 3
# Of Neutron's own driver, empty without it.
BASE_EGRESS_TABLE = ovs_constants.BASE_EGRESS_TABLE
FIRST_TABLE = 100  # the daemon's; from here on no table is the agent's


class HookNotInstalled(Exception):
    """Without the hook all ports are open. Not a TypeError: for that the agent would try without a bridge."""


class Hook:
    def __init__(self, integration_bridge) -> None:
        # A bridge object whose flows carry a cookie of their own, reserved with the agent's bridge, so that
        # the agent does not take them for an earlier agent's and delete them after its first iteration.
        self._bridge = ovs_agent_extension_api.OVSCookieBridge(integration_bridge)
        self.cookie: int = self._bridge.default_cookie

    def is_to_wait(self) -> bool:
        """Whether Neutron's own driver filters, and nothing of ours goes before its flows yet."""
        try:
            hooks = self._bridge.dump_flows(table_id=ovs_constants.TRANSIENT_TABLE)
            if any(flow.priority == PRIORITY for flow in hooks):
                return False
            return bool(self._bridge.dump_flows(table_id=BASE_EGRESS_TABLE))
        except Exception as error:
            raise HookNotInstalled(f"the flows of the integration bridge cannot be read: {error}") from error

    def install(self) -> None:
        """Adding a flow that is there replaces it, in one step: an earlier agent's hook gets our cookie."""
        self._install(FLOOR)
        self._install(PRIORITY)

    def _install(self, priority: int) -> None:
        try:
            # Over the agent's OpenFlow connection and not with add_flow, which runs ovs-ofctl and only logs
            # what goes wrong. This one waits for the barrier and raises for an error of the switch.
            _datapath, _ofproto, parser = self._bridge._get_dp()
            self._bridge.install_apply_actions(
                [parser.NXActionResubmitTable(table_id=FIRST_TABLE)],
                table_id=ovs_constants.TRANSIENT_TABLE,
                priority=priority,
            )
        except Exception as error:
            raise HookNotInstalled(
                f"table {ovs_constants.TRANSIENT_TABLE} of the integration bridge does not lead to the "
                f"firewall, and every port is open: {error}"
            ) from error

    def go_before_defaults_of(self, integration_bridge) -> None:
        """Have the hook installed before the agent's default flows, each time it installs these.

        After a restart of Open vSwitch the bridge is empty, and closed. The agent puts its default flows in,
        NORMAL among them, then sets physical bridges and tunnels up, and only then tells drivers of the
        restart: for these seconds every port would be open. It lets an exception here end it, as it should.
        """
        install_defaults = integration_bridge.setup_default_table

        @functools.wraps(install_defaults)
        def setup_default_table(*args, **kwargs):
            self.install()
            return install_defaults(*args, **kwargs)

        integration_bridge.setup_default_table = setup_default_table

    def go_before_cleaning_of(self, integration_bridge) -> None:
        """Have the hook installed before the agent deletes the flows of Neutron's own driver, whatever the
        daemon has come to: below them is NORMAL."""
        clean = integration_bridge.cleanup_flows

        @functools.wraps(clean)
        def cleanup_flows(*args, **kwargs):
            self.install()
            return clean(*args, **kwargs)

        integration_bridge.cleanup_flows = cleanup_flows
