# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""The firewall driver that neutron-openvswitch-agent loads.

It decides nothing and sends no flow but the hook: it keeps what the agent tells, hands differences to the
sgflow daemon, and lets a batch end only when these are in force, since the agent sets ports up after it.
"""

from __future__ import annotations

import collections
import threading
from typing import Any, Iterable

from neutron.agent import firewall
from neutron.api.rpc.callbacks import resources
from neutron_lib.callbacks import events, registry
from neutron_lib.callbacks import resources as callback_resources
from oslo_config import cfg
from oslo_log import log as logging

from sgflow_neutron import config
from sgflow_neutron.client import Client
from sgflow_neutron.hook import Hook, HookNotInstalled
from sgflow_neutron.policy import TRUSTED, Policy, PortFacts
from sgflow_neutron.session import Session

LOG = logging.getLogger(__name__)

CHECK_INTERVAL = 2.0
# Ids of ports that were deleted anywhere in the cloud: enough for as long as the interface of one of them may
# still be plugged here.
DELETED_KEPT = 10000
# Ahead of the agent's own subscription, by which it learns that it has a deleted port to process.
FIRST = 0


class SgflowFirewallDriver(firewall.FirewallDriver):
    # The daemon checks ARP: the agent must not install its own flows for it.
    provides_arp_spoofing_protection = True
    # Ports are plugged into the integration bridge itself.
    OVS_HYBRID_PLUG_REQUIRED = False

    def __init__(self, integration_bridge) -> None:
        config.register(cfg.CONF)
        if not cfg.CONF.SECURITYGROUP.enable_security_group:
            # The agent would tell of no port, and all of them would be closed.
            raise ValueError("firewall_driver = sgflow needs enable_security_group = true; else use noop")
        self._apply_timeout = cfg.CONF.SGFLOW.apply_timeout
        self._ports: dict[str, dict[str, Any]] = {}
        self._deleted: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._deferred = False
        self._batch_ports: set[str] = set()
        self._batch_members: dict[str, set[str]] = {}

        self._hook = Hook(integration_bridge)
        # The flows of Neutron's own driver filter until the daemon has everything in force.
        self._taking_over = self._hook.is_to_wait()
        if not self._taking_over:
            self._hook.install()
        self._hook.go_before_defaults_of(integration_bridge)
        self._hook.go_before_cleaning_of(integration_bridge)
        self._hook_missing = False

        self._policy = Policy()
        self._session = Session(self._policy, Client(cfg.CONF.SGFLOW.socket))
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="sgflow", daemon=True)
        registry.subscribe(self._ovs_restarted, callback_resources.AGENT, events.OVS_RESTARTED)
        registry.subscribe(self._port_deleted, resources.PORT, events.AFTER_DELETE, priority=FIRST)
        self._watcher.start()

    def close(self) -> None:
        """Let go of everything but the flow. The agent never does; programs that make several drivers do."""
        registry.unsubscribe(self._ovs_restarted, callback_resources.AGENT, events.OVS_RESTARTED)
        registry.unsubscribe(self._port_deleted, resources.PORT, events.AFTER_DELETE)
        self._closing.set()
        self._watcher.join()

    @property
    def ports(self) -> dict[str, dict[str, Any]]:
        """Every port of which the agent has told, those without port security too: what it finds here it does
        not take for trusted. A copy, since RPC threads iterate over it while the main thread adds ports."""
        return self._ports.copy()

    def prepare_port_filter(self, port: dict[str, Any]) -> None:
        """A port that the agent has just seen on the bridge; at its start, each port, and more than once."""
        self._tell_port(port)
        self._session.expect(port["device"])
        self._told()

    def update_port_filter(self, port: dict[str, Any]) -> None:
        """Something of the port may have changed, port security included, or of any group that it has to do
        with: mostly nothing has."""
        device = port["device"]
        if self._tell_port(port):
            self._session.expect(device)
        else:
            self._session.expect_first(device)
        self._told()

    def remove_port_filter(self, port: dict[str, Any]) -> None:
        self._remove(port["device"])
        self._told()

    def process_trusted_ports(self, port_ids: Iterable[str]) -> None:
        """Ports of which the agent has an id and nothing else: it takes them for ports of the network itself
        (DHCP, routers). A port that was deleted while its interface is still plugged looks the same."""
        for port in port_ids:
            if port in self._deleted:
                LOG.info("sgflow: port %s was deleted: its interface stays closed.", port)
                self._remove(port)
                continue
            self._ports.pop(port, None)
            self._policy.set_port(port, TRUSTED)
            self._session.expect(port)
        self._told()

    def remove_trusted_ports(self, port_ids: Iterable[str]) -> None:
        """Called for each port that is deleted anywhere in the cloud: nearly all are none of ours."""
        for port in port_ids:
            self._remove(port)
        self._told()

    def update_security_group_rules(self, sg_id: str, rules: list[dict[str, Any]]) -> None:
        self._policy.set_rules(sg_id, rules)
        self._told()

    def update_security_group_members(self, sg_id: str, ips: dict[str, Any]) -> None:
        """Members of a security group that is the remote of a rule, or the addresses of an address group."""
        self._policy.set_members(sg_id, ips)
        if self._deferred:
            self._batch_members.setdefault(sg_id, set()).update(ips)
        self._told()

    def security_group_updated(self, action_type, sec_group_ids, device_ids=None) -> None:
        """An announcement, from RPC threads, of what the next batch tells in full."""

    def apply_port_filter(self, port: dict[str, Any]) -> None:
        """Nothing is left to do here: what was told is in force when the batch ends."""

    def filter_defer_apply_on(self) -> None:
        self._deferred = True
        # Half of a batch is no policy.
        self._session.holds_back = True
        self._batch_ports.clear()
        self._batch_members.clear()

    def filter_defer_apply_off(self) -> None:
        """Returns when everything that was told is in force. If it raises, the agent sets no port of the
        batch up, and processes all of its ports again."""
        if not self._deferred:
            return
        self._deferred = False
        self._session.holds_back = False
        for group, ethertype in self._policy.drop_lost_members(self._batch_ports, self._batch_members):
            LOG.warning(
                "sgflow: the agent lost the %s members of group %s between two questions to its cache: rules "
                "with this remote match nothing until it tells them. Set rpc_resources_processing_step to "
                "more than the number of ports on this host.",
                ethertype,
                group,
            )
        self._policy.forget_unused()
        self._push()

    def _tell_port(self, port: dict[str, Any]) -> bool:
        device = port["device"]
        self._ports[device] = port
        if self._deferred:
            self._batch_ports.add(device)
        return self._policy.set_port(device, PortFacts.of(port))

    def _remove(self, device: str) -> None:
        self._ports.pop(device, None)
        self._policy.remove_port(device)
        self._session.expect_no_more(device)

    def _told(self) -> None:
        if not self._deferred:
            self._push()

    def _push(self) -> None:
        if self._hook_missing:
            self._install_hook()
        self._session.push(self._apply_timeout)
        if self._taking_over and self._session.has_begun:
            self._hook.install()
            self._taking_over = False
            LOG.info("sgflow: Neutron's own driver is taken over from.")

    def _install_hook(self) -> None:
        self._hook_missing = True
        self._hook.install()
        self._hook_missing = False

    def _ovs_restarted(self, resource, event, trigger, payload=None) -> None:
        """The daemon sees the restart itself; the agent prepares each port again. What is raised here is
        logged by the registry, and the agent goes on: so the next batch tries again before anything else."""
        self._session.expect_again()
        try:
            self._install_hook()
        except HookNotInstalled:
            LOG.critical("sgflow: the hook is missing after a restart of Open vSwitch.")
            raise

    def _port_deleted(self, resource, event, trigger, payload) -> None:
        """From RPC threads, for each port that is deleted anywhere in the cloud; ids are never used again."""
        self._deleted[payload.resource_id] = None
        while len(self._deleted) > DELETED_KEPT:
            self._deleted.popitem(last=False)

    def _watch(self) -> None:
        """Told of a new daemon by asking: everything then goes to it, batch or no batch."""
        while not self._closing.is_set():
            try:
                self._session.check()
            except Exception:
                LOG.exception("sgflow: the check of the daemon failed")
            self._closing.wait(CHECK_INTERVAL)
