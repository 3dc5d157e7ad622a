# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""What is sent: everything once, then what differs."""

from __future__ import annotations

import time

from tests.base import DriverTest, sample
from tests.calls import allow_out, port, rule


class WhatIsSent(DriverTest):
    def test_a_plugged_port_is_told_with_its_groups_and_waited_for(self):
        self.start_agent().plug("vm1")
        self.assertEqual(["vm1"], self.last["expect"])
        self.assertEqual(self.cloud.rules("web"), self.daemon.rules["web"])
        self.assertEqual(
            {
                ("10.0.0.1", "fa:16:3e:00:00:01"),
                ("10.9.0.0/24", "fa:16:3e:00:00:01"),
                ("10.0.0.2", "fa:16:3e:00:00:02"),
            },
            self.daemon.members["web"]["IPv4"],
        )
        self.assertEqual({("fd00::1", "fa:16:3e:00:00:01")}, self.daemon.members["web"]["IPv6"])
        self.assertEqual({"IPv4": {("192.0.2.0/24", None)}}, self.daemon.members["offices"])
        self.assertEqual(
            {
                "network_id": self.cloud.ports["vm1"]["network_id"],
                "mac_address": "fa:16:3e:00:00:01",
                "fixed_ips": ["10.0.0.1", "fd00::1"],
                "allowed_address_pairs": [{"ip_address": "10.9.0.0/24", "mac_address": "fa:16:3e:00:00:01"}],
                "security_groups": ["web"],
                "port_security_enabled": True,
                "device_owner": "compute:nova",
            },
            self.daemon.ports["vm1"],
        )
        self.assertEqual(self.apply_timeout, self.daemon.waits[-1])

    def test_a_batch_is_one_request(self):
        agent = self.start_agent()
        before = len(self.daemon.changes)
        agent.plug("vm1", "vm2")
        self.assertEqual(before + 1, len(self.daemon.changes))
        self.assertEqual(["vm1", "vm2"], self.last["expect"])

    def test_a_member_on_another_host_costs_its_own_line(self):
        agent = self.start_agent()
        agent.plug("vm1", "vm2")
        self.cloud.add(port("far", "fa:16:3e:00:00:03", ["10.0.0.3"], ["web"]))
        agent.members_changed("web")
        self.assertEqual(
            {"IPv4": {"add": [["10.0.0.3", "fa:16:3e:00:00:03"]], "remove": []}}, self.last["members"]["web"]
        )
        self.assertEqual({"session", "sequence", "members"}, self.last.keys())
        del self.cloud.ports["far"]
        agent.members_changed("web")
        self.assertEqual(
            {"IPv4": {"add": [], "remove": [["10.0.0.3", "fa:16:3e:00:00:03"]]}}, self.last["members"]["web"]
        )

    def test_what_is_told_again_sends_nothing(self):
        agent = self.start_agent()
        agent.plug("vm1", "vm2")
        before = len(self.daemon.changes)
        agent.update("vm1", "vm2")
        agent.rules_changed("web")
        self.cloud.groups["web"].reverse()
        self.cloud.ports["vm1"]["fixed_ips"].reverse()
        agent.members_changed("web")
        self.assertEqual(before, len(self.daemon.changes))

    def test_a_rule_that_changes_sends_its_group(self):
        agent = self.start_agent()
        agent.plug("vm1")
        self.cloud.groups["web"].append(rule("ingress", "icmp", (8, 0)))
        agent.rules_changed("web")
        self.assertEqual({"session", "sequence", "rules"}, self.last.keys())
        self.assertEqual(self.cloud.rules("web"), self.last["rules"]["web"])

    def test_a_group_of_no_use_any_more_is_gone_and_comes_back_whole(self):
        agent = self.start_agent()
        agent.plug("vm1")
        agent.unplug("vm1")
        self.assertEqual({"vm1": None}, self.last["ports"])
        self.assertEqual({"web": None}, self.last["rules"])
        self.assertEqual({"web": None, "offices": None}, self.last["members"])
        agent.plug("vm1")
        self.assertEqual(self.cloud.rules("web"), self.daemon.rules["web"])
        self.assertEqual(3, len(self.daemon.members["web"]["IPv4"]))

    def test_what_is_told_outside_of_a_batch_is_sent_at_once(self):
        self.start_agent()
        self.driver.update_security_group_rules("web", self.cloud.rules("web"))
        self.assertEqual({"web"}, self.daemon.rules.keys())
        self.driver.prepare_port_filter(self.cloud.ports["vm1"])
        self.assertEqual({"vm1"}, self.daemon.ports.keys())

    def test_an_ethertype_that_is_not_told_stays(self):
        agent = self.start_agent()
        agent.plug("vm1")
        self.cloud.groups["v4"] = [*allow_out(), rule("ingress", group="web")]
        self.cloud.add(port("vm4", "fa:16:3e:00:00:04", ["10.0.0.4"], ["v4"]))
        agent.plug("vm4")
        self.assertEqual({("fd00::1", "fa:16:3e:00:00:01")}, self.daemon.members["web"]["IPv6"])

    def test_members_that_the_agent_lost_match_nothing(self):
        """One refresh over both ports, in which the answer for the second replaces that for the first."""
        agent = self.start_agent()
        agent.plug("vm1")
        self.cloud.groups["v4"] = [*allow_out(), rule("ingress", group="web")]
        self.cloud.add(port("vm4", "fa:16:3e:00:00:04", ["10.0.0.4"], ["v4"]))
        with self.assertLogs("sgflow_neutron.driver", "WARNING") as log, self.driver.defer_apply():
            self.driver.update_security_group_rules("web", self.cloud.rules("web"))
            self.driver.update_security_group_rules("v4", self.cloud.rules("v4"))
            self.driver.update_security_group_members("web", {"IPv4": self.cloud.members("web")})
            self.driver.update_port_filter(self.cloud.ports["vm1"])
            self.driver.update_port_filter(self.cloud.ports["vm4"])
        self.assertIn("rpc_resources_processing_step", log.output[0])
        self.assertEqual(set(), self.daemon.members["web"].get("IPv6", set()))

    def test_what_was_captured_from_an_agent(self):
        self.start_agent()
        (told,) = sample("prepare_port_filter")
        with self.driver.defer_apply():
            self.driver.update_security_group_rules(*sample("update_security_group_rules"))
            self.driver.update_security_group_members(*sample("update_security_group_members"))
            self.driver.prepare_port_filter(told)
        group = told["security_groups"][0]
        self.assertEqual(sample("update_security_group_rules")[1], self.daemon.rules[group])
        self.assertEqual(
            sample("update_security_group_members")[1]["IPv4"], self.daemon.members[group]["IPv4"]
        )
        self.assertEqual(told["fixed_ips"], self.daemon.ports[told["device"]]["fixed_ips"])
        before = len(self.daemon.changes)
        with self.driver.defer_apply():
            self.driver.update_port_filter(*sample("update_port_filter"))
        self.assertEqual(before, len(self.daemon.changes), "one second later, for the same port, now ACTIVE")

    def test_what_is_refused_is_logged_and_no_failure(self):
        agent = self.start_agent()
        self.daemon.refused = [
            {"object": "rule 3 of security group web", "field": "protocol", "reason": "dccp"}
        ]
        self.daemon.closed = {"vm1": "malformed"}
        self.daemon.absent = {"vm2"}
        with self.assertLogs("sgflow_neutron.session", "INFO") as log:
            agent.plug("vm1", "vm2")
        text = "\n".join(log.output)
        self.assertIn("refused rule 3 of security group web: protocol: dccp", text)
        self.assertIn("port vm1 is closed: malformed", text)
        self.assertIn("not on the integration bridge: vm2", text)

    def test_a_refresh_over_a_hundred_ports_costs_microseconds_a_port(self):
        """One member more in a group of 500: what the driver adds to the agent's own work."""
        agent = self.start_agent()
        devices = [f"vm{number}" for number in range(100, 200)]
        for number, device in enumerate(devices):
            self.cloud.add(port(device, f"fa:16:3e:00:01:{number:02x}", [f"10.0.1.{number}"], ["web"]))
        for number in range(400):
            mac = f"fa:16:3e:01:{number >> 8:02x}:{number & 255:02x}"
            address = f"10.1.{number >> 8}.{number & 255}"
            self.cloud.add(port(f"far{number}", mac, [address], ["web"]))
        agent.plug(*devices)
        self.cloud.add(port("one", "fa:16:3e:02:00:00", ["10.2.0.0"], ["web"]))
        info = self.cloud.security_group_info_for_devices(None, devices)
        self.driver.filter_defer_apply_on()
        before = time.thread_time()
        for group, rules in info["security_groups"].items():
            self.driver.update_security_group_rules(group, rules)
        for group, members in info["sg_member_ips"].items():
            self.driver.update_security_group_members(group, members)
        for told in info["devices"].values():
            self.driver.update_port_filter(told)
        self.driver.process_trusted_ports([])
        took = time.thread_time() - before
        self.driver.filter_defer_apply_off()
        self.assertEqual({"session", "sequence", "members"}, self.last.keys())
        self.assertEqual(1, len(self.last["members"]["web"]["IPv4"]["add"]))
        self.assertLess(took, 0.02, "seconds of processor time, of which a few milliseconds are used")
