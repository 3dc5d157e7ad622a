# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
"""What the agent has told, what of it the daemon holds, and the difference.

The agent tells the same things over and over: one member more in a group, and it hands over all rules, all
members and every port that the group touches. Here each of these costs one comparison; only what differs
becomes JSON.
"""

from __future__ import annotations

import enum
import json
import threading
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Tuple, Union

Member = Tuple[str, Optional[str]]
# By ethertype. The MAC of an address group's member is None.
Members = Dict[str, FrozenSet[Member]]
Rules = List[Dict[str, Any]]

NONE: frozenset[Member] = frozenset()


class Trusted(enum.Enum):
    """In place of a port's facts: the agent tells nothing but the ids of ports that are not filtered."""

    TRUSTED = "trusted"


TRUSTED = Trusted.TRUSTED


class PortFacts(NamedTuple):
    """The part of a port dict that decides what the port may send and receive, in an order of our own:
    the agent makes some of these lists from sets."""

    network_id: str
    mac_address: str
    fixed_ips: tuple[str, ...]
    allowed_address_pairs: tuple[tuple[str, str], ...]
    security_groups: tuple[str, ...]
    port_security_enabled: bool
    device_owner: str

    @classmethod
    def of(cls, port: dict[str, Any]) -> PortFacts:
        mac_address = port["mac_address"]
        return cls(
            port["network_id"],
            mac_address,
            tuple(sorted(port.get("fixed_ips") or ())),
            tuple(
                sorted(
                    (str(pair["ip_address"]), str(pair.get("mac_address") or mac_address))
                    for pair in port.get("allowed_address_pairs") or ()
                )
            ),
            tuple(sorted(port.get("security_groups") or ())),
            bool(port.get("port_security_enabled", True)),
            port.get("device_owner") or "",
        )

    def as_json(self) -> dict[str, Any]:
        facts = self._asdict()
        facts["allowed_address_pairs"] = [
            {"ip_address": address, "mac_address": mac} for address, mac in self.allowed_address_pairs
        ]
        return facts


Port = Union[PortFacts, Trusted]


class Change(NamedTuple):
    """What one request tells. None in place of a value: gone."""

    whole: bool
    rules: dict[str, Rules | None]
    members: dict[str, Members | None]
    ports: dict[str, Port | None]
    body: dict[str, Any]


class Policy:
    """Thread-safe: the agent's main thread tells, another one may send everything to a new daemon."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rules: dict[str, Rules] = {}
        self._members: dict[str, Members] = {}
        self._ports: dict[str, Port] = {}
        # As in the last change that the daemon took.
        self._held_rules: dict[str, Rules] = {}
        self._held_members: dict[str, Members] = {}
        self._held_ports: dict[str, Port] = {}
        # Where the two may differ, so that nothing else need be looked at.
        self._touched_rules: set[str] = set()
        self._touched_members: set[str] = set()
        self._touched_ports: set[str] = set()
        self._maybe_unused = False

    def set_rules(self, group: str, rules: Rules) -> None:
        with self._lock:
            if not _same_rules(self._rules.get(group), rules):
                self._rules[group] = rules
                self._touched_rules.add(group)
                self._maybe_unused = True

    def set_members(self, group: str, members: dict[str, Any]) -> None:
        """An ethertype that is not told of stays as it is: the agent tells only of those that some rule of
        the ports in this batch uses, and rules of other ports may use the other one."""
        with self._lock:
            known = self._members.get(group)
            new = dict(known or {})
            for ethertype, told in members.items():
                # Over RPC sets arrive as lists, and tuples too.
                if not isinstance(told, (set, frozenset)):
                    told = {tuple(member) for member in told}
                if told != new.get(ethertype):
                    new[ethertype] = frozenset(told)
            if known is None or new != known:
                self._members[group] = new
                self._touched_members.add(group)

    def set_port(self, port: str, facts: Port) -> bool:
        """Whether that is news."""
        with self._lock:
            known = self._ports.get(port)
            if facts == known:
                return False
            self._ports[port] = facts
            self._touched_ports.add(port)
            if _groups(facts) != _groups(known):
                self._maybe_unused = True
            return True

    def remove_port(self, port: str) -> bool:
        """Whether there was one."""
        with self._lock:
            if self._ports.pop(port, None) is None:
                return False
            self._touched_ports.add(port)
            self._maybe_unused = True
            return True

    def knows_port(self, port: str) -> bool:
        return port in self._ports

    def forget_unused(self) -> None:
        """The agent never says that a group is gone, or of no use here any more. It tells whole rules and
        members again, ahead of a port, where they are of use once more."""
        with self._lock:
            if not self._maybe_unused:
                return
            self._maybe_unused = False
            carried = set()
            for facts in self._ports.values():
                carried.update(_groups(facts))
            for group in self._rules.keys() - carried:
                del self._rules[group]
                self._touched_rules.add(group)
            remotes = {remote for rules in self._rules.values() for remote, _ in _remotes(rules)}
            for group in self._members.keys() - remotes:
                del self._members[group]
                self._touched_members.add(group)

    def drop_lost_members(self, ports: set[str], told: dict[str, set[str]]) -> list[tuple[str, str]]:
        """Members of which the agent lost the current ones, now forgotten: (group, ethertype).

        The agent asks for 20 devices at a time (rpc_resources_processing_step) and lets the answers to later
        questions replace those to earlier ones. So where a group is the remote of IPv6 rules of one device
        and of IPv4 rules alone of a later one, the batch lacks the IPv6 members. Those we know may have been
        revoked: without them the rules match nothing, which is what they do in Neutron's own driver then.
        """
        with self._lock:
            suspects = {
                (group, ethertype)
                for group, ethertypes in told.items()
                for ethertype in self._members.get(group, {}).keys() - ethertypes
            }
            if not suspects:
                return []
            carried = set()
            for port in ports:
                carried.update(_groups(self._ports.get(port)))
            needed = {remote for group in carried for remote in _remotes(self._rules.get(group, []))}
            lost = sorted(suspects & needed)
            for group, ethertype in lost:
                members = dict(self._members[group])
                del members[ethertype]
                self._members[group] = members
                self._touched_members.add(group)
            return lost

    def is_news(self) -> bool:
        """Whether something was told, or taken back, since the daemon last took a change."""
        with self._lock:
            return bool(self._touched_rules or self._touched_members or self._touched_ports)

    def difference(self) -> Change:
        """What the daemon does not hold yet."""
        with self._lock:
            return self._change(
                False,
                self._touched_rules,
                self._touched_members,
                self._touched_ports,
                self._held_members,
            )

    def whole(self) -> Change:
        """Everything, for a daemon that holds nothing. A port of which it may hold something from a session
        before, and which is gone, is named as gone."""
        with self._lock:
            return self._change(
                True,
                self._rules.keys(),
                self._members.keys(),
                self._ports.keys() | self._touched_ports,
                {},
            )

    def _change(self, whole, rules, members, ports, held_members: dict[str, Members]) -> Change:
        told_rules = {group: self._rules.get(group) for group in rules}
        told_members = {group: self._members.get(group) for group in members}
        told_ports = {port: self._ports.get(port) for port in ports}
        body = {
            "rules": told_rules,
            "members": {
                group: None if new is None else _delta(held_members.get(group, {}), new)
                for group, new in told_members.items()
            },
            "ports": {
                port: facts.as_json() if isinstance(facts, PortFacts) else None
                for port, facts in told_ports.items()
                if facts is not TRUSTED
            },
            "trusted": [port for port, facts in told_ports.items() if facts is TRUSTED],
        }
        return Change(
            whole, told_rules, told_members, told_ports, {key: value for key, value in body.items() if value}
        )

    def took(self, change: Change) -> None:
        """The daemon holds this change now. What was told meanwhile is the next difference."""
        with self._lock:
            if change.whole:
                self._held_rules.clear()
                self._held_members.clear()
                self._held_ports.clear()
            _take(change.rules, self._rules, self._held_rules, self._touched_rules)
            _take(change.members, self._members, self._held_members, self._touched_members)
            _take(change.ports, self._ports, self._held_ports, self._touched_ports)


def _take(change: dict, wanted: dict, held: dict, touched: set[str]) -> None:
    for key, value in change.items():
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value
        if wanted.get(key) == value:
            touched.discard(key)


def _delta(old: Members, new: Members) -> dict[str, dict[str, list[Member]]]:
    delta = {}
    for ethertype in old.keys() | new.keys():
        before, after = old.get(ethertype, NONE), new.get(ethertype, NONE)
        if before != after:
            delta[ethertype] = {"add": list(after - before), "remove": list(before - after)}
    return delta


def _groups(facts: Port | None) -> tuple[str, ...]:
    return facts.security_groups if isinstance(facts, PortFacts) else ()


def _remotes(rules: Rules) -> set[tuple[str, str]]:
    """The groups that rules name as remotes, each with the ethertype of the rule."""
    remotes = set()
    for rule in rules:
        remote = rule.get("remote_group_id") or rule.get("remote_address_group_id")
        if remote:
            remotes.add((remote, rule.get("ethertype", "IPv4")))
    return remotes


def _same_rules(known: Rules | None, rules: Rules) -> bool:
    if known is None:
        return False
    if known == rules:
        return True
    # The order is that of the agent's cache, and means nothing.
    return len(known) == len(rules) and _unordered(known) == _unordered(rules)


def _unordered(rules: Rules) -> list[str]:
    return sorted(json.dumps(rule, sort_keys=True, default=str) for rule in rules)
