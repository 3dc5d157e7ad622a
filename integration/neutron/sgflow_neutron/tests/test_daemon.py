# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""The daemon is away, comes back, is slow, or does not want to."""

from __future__ import annotations

import socket
import threading
import time

from sgflow_neutron import client
from sgflow_neutron.client import OutOfStep, Rejected, Unavailable
from sgflow_neutron.session import NotApplied
from tests.base import DriverTest
from tests.calls import port


class Restarts(DriverTest):
    def test_a_new_daemon_is_told_everything_without_a_batch(self):
        agent = self.start_agent()
        self.cloud.add(port("dhcp", "fa:16:3e:00:00:09", ["10.0.0.9"], owner="network:dhcp"))
        agent.plug("vm1", "vm2", "dhcp")
        held = (self.daemon.rules, self.daemon.members, self.daemon.ports, self.daemon.trusted)
        self.daemon.stop()
        self.daemon.start()
        self.wait_for(lambda: self.daemon.sequence == 1)
        self.assertEqual(
            held, (self.daemon.rules, self.daemon.members, self.daemon.ports, self.daemon.trusted)
        )

    def test_a_new_daemon_is_told_nothing_before_the_agent_has_told_something(self):
        """Nothing is not everything: the daemon would close the ports that it finds enforced."""
        agent = self.start_agent(begun=False)
        asked = self.daemon.asked
        self.wait_for(lambda: self.daemon.asked > asked + 2)
        self.assertIsNone(self.daemon.session)
        agent.plug("vm1", "vm2")
        self.assertEqual((1, {"vm1", "vm2"}), (self.daemon.sequence, self.daemon.ports.keys()))

    def test_a_new_daemon_is_not_told_half_a_batch(self):
        agent = self.start_agent()
        agent.plug("vm1")
        self.driver.filter_defer_apply_on()
        self.driver.update_security_group_rules("web", [])
        self.daemon.stop()
        self.daemon.start()
        asked = self.daemon.asked
        self.wait_for(lambda: self.daemon.asked > asked + 2)
        self.assertIsNone(self.daemon.session)
        self.driver.filter_defer_apply_off()
        self.assertEqual([], self.daemon.rules["web"])

    def test_a_batch_that_meets_a_new_daemon_first(self):
        """It answers 409 to the next change of a session that it does not hold."""
        agent = self.start_agent()
        agent.plug("vm1")
        self.driver._closing.set()
        self.driver._watcher.join()
        self.daemon.stop()
        self.daemon.start()
        agent.plug("vm2")
        self.assertEqual(1, self.last["sequence"])
        self.assertEqual(["vm2"], self.last["expect"])
        self.assertEqual({"vm1", "vm2"}, self.daemon.ports.keys())

    def test_a_daemon_that_restarts_during_a_batch_is_waited_for(self):
        agent = self.start_agent()
        self.daemon.stop()
        later = threading.Timer(0.5, self.daemon.start)
        later.start()
        agent.plug("vm1")
        later.join()
        self.assertIn("vm1", self.daemon.ports)

    def test_a_port_that_went_while_the_daemon_was_away_is_named(self):
        """A new session leaves ports that it does not name as they were."""
        agent = self.start_agent()
        agent.plug("vm1", "vm2")
        self.driver._apply_timeout = 0.1
        self.daemon.stop()
        with self.assertRaises(Unavailable):
            agent.unplug("vm1")
        self.daemon.start()
        self.wait_for(lambda: self.daemon.sequence == 1)
        self.assertIsNone(self.last["ports"]["vm1"])
        self.assertEqual({"vm2"}, self.daemon.enforced.keys())

    def test_another_session_took_the_daemon(self):
        """The agent before, in its last moments: what it told is replaced."""
        agent = self.start_agent()
        agent.plug("vm1")
        self.daemon.session, self.daemon.ports = "somebody else's", {}
        self.wait_for(lambda: "vm1" in self.daemon.ports)


class Away(DriverTest):
    apply_timeout = 1

    def test_a_batch_fails_after_its_time_then_at_once(self):
        agent = self.start_agent(daemon=False)
        before = time.monotonic()
        with self.assertRaises(Unavailable):
            agent.plug("vm1")
        self.assertLess(time.monotonic() - before, 3)
        before = time.monotonic()
        with self.assertRaises(Unavailable):
            agent.plug("vm1")
        self.assertLess(time.monotonic() - before, 0.5)

    def test_what_was_told_meanwhile_arrives_when_it_is_back(self):
        agent = self.start_agent(daemon=False)
        with self.assertRaises(Unavailable):
            agent.plug("vm1")
        self.assertIn("vm1", self.driver.ports)
        self.daemon.start()
        self.wait_for(lambda: "vm1" in self.daemon.ports)
        agent.plug("vm1")
        self.assertEqual(["vm1"], self.last["expect"])

    def test_the_log_says_so_once_and_when_it_is_back(self):
        with self.assertLogs("sgflow_neutron.session", "INFO") as log:
            agent = self.start_agent(daemon=False)
            for _ in range(3):
                with self.assertRaises(Unavailable):
                    agent.plug("vm1")
            self.daemon.start()
            self.wait_for(lambda: self.daemon.sequence == 1)
        self.assertEqual(1, sum("not available" in line for line in log.output), log.output)
        self.assertEqual(1, sum(".sock is back" in line for line in log.output), log.output)

    def test_whoever_may_not_change_the_policy_is_told(self):
        agent = self.start_agent()
        self.daemon.status = 403
        with self.assertRaisesRegex(Unavailable, "not allowed"):
            agent.plug("vm1")

    def test_nothing_is_done_to_what_is_enforced(self):
        agent = self.start_agent()
        agent.plug("vm1")
        flows, enforced = dict(self.bridge.switch.flows), dict(self.daemon.enforced)
        self.daemon.stop()
        self.cloud.groups["web"].pop()
        with self.assertRaises(Unavailable):
            agent.rules_changed("web")
        self.assertEqual(flows, self.bridge.switch.flows)
        self.assertEqual(enforced, self.daemon.enforced)


class Slow(DriverTest):
    apply_timeout = 1

    def test_what_is_not_in_force_in_time_fails_and_is_waited_for_again(self):
        agent = self.start_agent()
        self.daemon.pending = "no bridge br-int"
        with self.assertLogs("sgflow_neutron.session", "WARNING") as log:
            with self.assertRaisesRegex(NotApplied, "no bridge br-int"):
                agent.plug("vm1")
            with self.assertRaises(NotApplied):
                agent.plug("vm1")
        self.assertEqual(1, len(log.output), "once, not with each answer")
        self.daemon.pending = None
        before = len(self.daemon.changes)
        agent.plug("vm1")
        self.assertEqual(before + 1, len(self.daemon.changes))
        self.assertEqual({"session", "sequence", "expect"}, self.last.keys(), "it was taken the first time")

    def test_the_shortest_time_is_time(self):
        self.start_agent().plug("vm1")
        self.assertEqual(1, self.daemon.waits[-1], "a daemon that may not wait has nothing in force yet")

    def test_once_applied_later_nothing_is_waited_for(self):
        agent = self.start_agent()
        agent.plug("vm1")
        self.daemon.pending = "read-back"
        self.cloud.groups["web"].pop()
        with self.assertRaises(NotApplied):
            agent.rules_changed("web")
        self.daemon.pending, self.daemon.applied = None, self.daemon.sequence
        self.wait_for(lambda: self.driver._session._applied)
        before = len(self.daemon.changes)
        agent.unplug("far")
        self.assertEqual(before, len(self.daemon.changes))

    def test_a_daemon_that_never_agrees_ends_the_batch(self):
        agent = self.start_agent()
        self.driver._closing.set()
        self.driver._watcher.join()
        self.daemon.status = 409
        with self.assertRaises(OutOfStep):
            agent.plug("vm1")

    def test_a_change_of_which_nothing_was_taken_ends_the_batch(self):
        agent = self.start_agent()
        self.daemon.status = 400
        with self.assertRaises(Rejected):
            agent.plug("vm1")
        self.daemon.status = None
        agent.plug("vm1")
        self.assertIn("vm1", self.daemon.ports)

    def test_a_daemon_that_does_not_answer_blocks_nobody_for_ever(self):
        self.quicken(client, "MARGIN", 0.5)
        self.quicken(client, "STATE_TIMEOUT", 0.5)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.daemon.path)
        listener.listen(8)
        agent = self.start_agent(daemon=False)
        before = time.monotonic()
        with self.assertRaisesRegex(Unavailable, "timed out"):
            agent.plug("vm1")
        self.assertLess(time.monotonic() - before, 5)
