# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""What a real agent does that a driver would not expect, each with its test."""

from __future__ import annotations

import threading
import time

from neutron_lib.callbacks import events, registry, resources

from sgflow_neutron.hook import FLOOR, HookNotInstalled
from sgflow_neutron.session import NotApplied
from tests.base import DriverTest, restart_of_open_vswitch, sample
from tests.calls import port
from tests.fakes import FakeBridge


class Ports(DriverTest):
    def test_prepare_is_called_twice(self):
        """At a start of the agent, for every port. The second time the interface may be another one, so the
        port is waited for again; nothing is told again."""
        agent = self.start_agent()
        agent.plug("vm1")
        agent.plug("vm1")
        self.assertEqual({"session", "sequence", "expect"}, self.last.keys())
        self.assertEqual(["vm1"], self.last["expect"])
        self.assertEqual({"vm1"}, self.driver.ports.keys())

    def test_port_security_goes_off_and_on_by_updates(self):
        agent = self.start_agent()
        agent.plug("vm1")
        self.cloud.ports["vm1"].update(port_security_enabled=False, security_groups=[])
        agent.update("vm1")
        self.assertIs(False, self.daemon.ports["vm1"]["port_security_enabled"])
        self.assertEqual([], self.daemon.ports["vm1"]["security_groups"])
        self.assertEqual(["vm1"], self.last["expect"])
        self.assertIn("vm1", self.driver.ports)
        self.assertNotIn("trusted", self.last)
        self.cloud.ports["vm1"].update(port_security_enabled=True, security_groups=["web"])
        agent.update("vm1")
        self.assertIs(True, self.daemon.ports["vm1"]["port_security_enabled"])
        self.assertEqual(self.cloud.rules("web"), self.daemon.rules["web"])
        self.assertEqual(["vm1"], self.last["expect"])

    def test_port_security_is_off_from_the_start(self):
        self.start_agent()
        for name in ("prepare_port_filter_psec_off", "update_port_filter_psec_off"):
            (told,) = sample(name)
            with self.driver.defer_apply():
                getattr(self.driver, name[: -len("_psec_off")])(told)
            self.assertIs(False, self.daemon.ports[told["device"]]["port_security_enabled"])
        self.driver.remove_port_filter(told)
        self.assertEqual({}, self.daemon.ports)

    def test_a_port_of_the_network_is_told_by_its_id(self):
        self.cloud.add(port("dhcp", "fa:16:3e:00:00:09", ["10.0.0.9"], owner="network:dhcp"))
        agent = self.start_agent()
        agent.plug("dhcp")
        self.assertEqual({"dhcp"}, self.daemon.trusted)
        self.assertEqual(["dhcp"], self.last["expect"])
        self.assertEqual({}, self.driver.ports)
        agent.unplug("dhcp")
        self.assertEqual({"dhcp": None}, self.last["ports"])
        self.assertEqual(set(), self.daemon.trusted)
        agent.plug("dhcp")
        self.assertEqual({"dhcp"}, self.daemon.trusted, "its interface came back")

    def test_a_deleted_port_whose_interface_is_still_plugged_is_not_trusted(self):
        agent = self.start_agent()
        agent.plug("vm1", "vm2")
        del self.cloud.ports["vm1"]
        agent.delete("vm1")
        self.assertEqual({"vm1": None}, self.last["ports"])
        before = len(self.daemon.changes)
        agent.update("vm1")
        self.assertEqual(before, len(self.daemon.changes))
        self.assertEqual(set(), self.daemon.trusted)
        self.assertEqual({"vm2"}, self.daemon.ports.keys())

    def test_a_port_that_was_deleted_before_it_was_plugged_is_not_trusted(self):
        agent = self.start_agent()
        del self.cloud.ports["vm1"]
        agent.delete("vm1")
        agent.plug("vm1")
        self.assertEqual(set(), self.daemon.trusted)
        self.assertEqual({}, self.daemon.ports)

    def test_a_deletion_is_known_before_the_agent_can_act_on_it(self):
        """The agent's own subscription puts the port on a list that the main thread works off at any time."""
        seen = []

        def agents_own(_resource, _event, _trigger, payload):
            self.driver.process_trusted_ports([payload.resource_id])
            seen.append(payload.resource_id)

        registry.subscribe(agents_own, "Port", events.AFTER_DELETE)
        self.addCleanup(registry.unsubscribe, agents_own, "Port", events.AFTER_DELETE)
        agent = self.start_agent()
        agent.delete("vm1")
        self.assertEqual(["vm1"], seen)
        self.assertEqual(set(), self.daemon.trusted)

    def test_ports_that_nobody_knows_are_removed(self):
        """For every port that is deleted anywhere in the cloud: no request, with or without a daemon."""
        agent = self.start_agent()
        agent.plug("vm1")
        before = len(self.daemon.changes)
        agent.delete(*(f"far{number}" for number in range(200)))
        self.driver.remove_trusted_ports(sample("remove_trusted_ports")[0])
        self.driver.remove_port_filter(self.cloud.ports["vm2"])
        self.assertEqual(before, len(self.daemon.changes))
        self.daemon.stop()
        agent.delete("far")

    def test_deleted_ids_are_not_kept_for_ever(self):
        agent = self.start_agent()
        agent.delete(*(f"far{number}" for number in range(10100)))
        self.assertEqual(10000, len(self.driver._deleted))

    def test_there_is_no_vlan_in_the_dict(self):
        """Nor is one asked for: the daemon reads it from the database, where it changes without a call."""
        self.start_agent()
        (told,) = sample("prepare_port_filter")
        self.assertFalse({"vlan", "tag", "local_vlan"} & told.keys())
        self.driver.prepare_port_filter(told)
        self.assertFalse(hasattr(self.bridge, "get_vif_port_by_id"))

    def test_ports_are_read_by_rpc_threads_meanwhile(self):
        """They iterate over what `ports` returned, as SecurityGroupAgentRpc does, and announce changes."""
        agent = self.start_agent()
        stop, failures = threading.Event(), []

        def rpc_thread():
            while not stop.is_set():
                try:
                    for told in self.driver.ports.values():
                        told["device"]
                    self.driver.security_group_updated("sg_member", {"web"})
                    self.driver.security_group_updated("sg_member", [], {"vm1"})
                    self.driver.security_group_updated("sg_rule", {"web"})
                    time.sleep(0)
                except Exception as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=rpc_thread) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                agent.plug("vm1", "vm2")
                agent.unplug("vm1", "vm2")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual([], failures)

    def test_an_announcement_from_an_rpc_thread_comes_ahead_of_the_batch(self):
        agent = self.start_agent()
        agent.plug("vm1")
        before = len(self.daemon.changes)
        self.driver.security_group_updated(*sample("security_group_updated_sg_member"))
        self.driver.security_group_updated(*sample("security_group_updated_sg_rule"))
        self.assertEqual(before, len(self.daemon.changes))


class TheHook(DriverTest):
    def test_it_is_there_when_the_driver_is_with_a_cookie_that_survives(self):
        self.start_agent()
        cookie, actions = self.bridge.hook
        self.assertEqual("resubmit(,100)", actions)
        self.assertNotEqual(self.bridge.default_cookie, cookie)
        self.bridge.cleanup_flows()
        self.assertIsNotNone(self.bridge.hook)

    def test_an_agent_that_starts_takes_over_the_hook_of_the_one_before(self):
        """Its cookie is reserved no more: left as it was, the flow would go after the first iteration."""
        self.start_agent(daemon=False)
        before = self.bridge.hook
        later = FakeBridge()
        later.switch = self.bridge.switch
        self.driver.close()
        self.bridge = later
        self.start_agent(daemon=False)
        self.assertNotEqual(before, self.bridge.hook)
        self.bridge.cleanup_flows()
        self.assertIsNotNone(self.bridge.hook)
        # The floor under it too, and both once more before each cleaning.
        self.assertEqual({"resubmit(,100)"}, set(self.bridge.switch.history), "replaced, never deleted")

    def test_it_is_there_without_a_daemon(self):
        self.start_agent(daemon=False)
        self.assertIsNotNone(self.bridge.hook)

    def test_it_comes_back_before_normal_when_open_vswitch_restarts(self):
        for daemon in (False, True):
            with self.subTest(daemon=daemon):
                self.bridge = FakeBridge()
                self.start_agent(daemon)
                cookie = self.bridge.hook[0]
                self.bridge.switch.history.clear()
                restart_of_open_vswitch(self.bridge)
                history = self.bridge.switch.history
                self.assertEqual(["resubmit(,100)", "resubmit(,100)", "NORMAL"], history[:3])
                self.assertEqual(cookie, self.bridge.hook[0])
                self.driver.close()

    def test_what_the_agent_passes_for_its_defaults_is_passed_on(self):
        self.start_agent(daemon=False)
        self.assertEqual("defaults", self.bridge.setup_default_table(enable_dhcpv6=True))
        with self.assertRaises(TypeError):
            self.bridge.setup_default_table(no_such_option=True)

    def test_ports_are_waited_for_again_after_a_restart_of_open_vswitch(self):
        agent = self.start_agent()
        agent.plug("vm1")
        restart_of_open_vswitch(self.bridge)
        agent.update("vm1")
        self.assertEqual(["vm1"], self.last["expect"])

    def test_the_agent_does_not_start_without_it(self):
        self.bridge.switch.broken = True
        with self.assertRaises(HookNotInstalled):
            self.start_agent(daemon=False)

    def test_the_agent_does_not_go_on_without_it(self):
        """The exception leaves setup_default_table, and then the agent's loop: no NORMAL without a hook."""
        self.start_agent(daemon=False)
        self.bridge.switch.broken = True
        self.bridge.switch.flows.clear()
        with self.assertRaises(HookNotInstalled):
            self.bridge.setup_default_table()
        self.assertEqual({}, self.bridge.switch.flows)

    def test_where_the_restart_callback_fails_the_next_batch_tries_first(self):
        agent = self.start_agent()
        self.bridge.switch.broken = True
        with self.assertLogs("sgflow_neutron.driver", "CRITICAL"):
            registry.publish(resources.AGENT, events.OVS_RESTARTED, None, payload=None)
        with self.assertRaises(HookNotInstalled):
            agent.plug("vm1")
        self.bridge.switch.broken = False
        agent.plug("vm1")
        self.assertIn("vm1", self.daemon.ports)

    def test_neutrons_own_driver_filters_until_everything_is_in_force(self):
        self.bridge.in_tree = [100]
        agent = self.start_agent(begun=False)
        self.assertIsNone(self.bridge.hook)
        self.assertNotIn(FLOOR, self.bridge.switch.flows, "what its flows leave to NORMAL is not ours yet")
        self.daemon.pending = "the switch is slow"
        self.driver._apply_timeout = 0.1
        with self.assertRaises(NotApplied):
            agent.plug("vm1")
        self.assertIsNone(self.bridge.hook)
        self.daemon.pending = None
        self.driver._apply_timeout = 5
        agent.plug("vm1", "vm2")
        self.assertIsNotNone(self.bridge.hook)

    def test_before_neutrons_flows_are_cleaned_up_the_hook_is_there_whatever_happened(self):
        self.bridge.in_tree = [100]
        self.start_agent(daemon=False)
        self.assertIsNone(self.bridge.hook)
        self.bridge.cleanup_flows()
        self.assertEqual("resubmit(,100)", self.bridge.switch.flows[FLOOR][1])
        self.assertIsNotNone(self.bridge.hook)

    def test_where_the_hook_was_there_already_nothing_is_waited_for(self):
        self.bridge.in_tree = [100]
        self.bridge.switch.flows[65000] = (0x1, "resubmit(,100)")
        self.start_agent(daemon=False)
        self.assertNotEqual(0x1, self.bridge.hook[0])

    def test_security_groups_switched_off_is_an_error(self):
        """The agent would tell of no port at all, and behind the hook all of them would be closed."""
        self.configure("SECURITYGROUP", "enable_security_group", False)
        with self.assertRaisesRegex(ValueError, "enable_security_group"):
            self.start_agent(daemon=False)
        self.assertIsNone(self.bridge.hook)
