"""Neutron's policy by way of the policy store: publishers write it, a host takes it from there."""

import ipaddress
import time
from contextlib import ExitStack
from typing import Any

from harness.api import Api
from harness.beside import Store, Watch
from harness.checks import check
from harness.checks.cloud import Cloud
from harness.daemon import Served
from harness.shell import HarnessError, wait_until
from harness.world import CheckFailed, World

_BRIDGE = "br-store"
_HOST = "compute-3"
_PORT = 6641
# A server that has not looked who wants which versions does not tell of changes for a minute.
_SOON_S = 100
# After that everything was pulled again twice.
_RESYNCS_S = 22
_RULE = (
    *("direction", "ethertype", "port_range_min", "port_range_max"),
    *("remote_ip_prefix", "remote_group_id", "remote_address_group_id"),
)


@check(
    "published-to-store",
    "what Neutron says is in the store, field by field, and in a switch, whoever was restarted or killed: "
    "broker, server, publisher, the store's leader, the host's agent; nothing goes back, and nothing is "
    "written that is not new",
    needs_daemon=True,
)
def published_to_store(world: World) -> str:
    services = world.agent.services
    with ExitStack() as stack:
        store = stack.enter_context(world.beside.store("store", _PORT))
        names = ("control-1", "control-2")
        publishers = {name: stack.enter_context(world.beside.publisher(store, name)) for name in names}
        daemon = stack.enter_context(world.beside.daemon(_BRIDGE, store.policy, _HOST))
        cloud = Cloud(world, _BRIDGE, ("i", "j", "k"), _HOST)
        cloud.must_hold(_SOON_S)
        versions = stack.enter_context(_Versions(world, store))

        services.kill_rabbit()
        services.start_rabbit()
        # At once, while nobody has found the broker again.
        versions.must_arrive("the broker restarted")
        services.restart_neutron()
        world.api.wait()
        versions.must_arrive("the server restarted")
        cloud.must_take_changes()
        group, port = _create_odd_ones(world)
        versions.must_match()

        leading = _leading(publishers)
        publishers[leading].kill()
        versions.must_arrive("the publisher that led killed")
        publishers[leading].start()
        if _leading(publishers) == leading:
            raise CheckFailed("nobody has taken over from the publisher that was killed")
        _must_write_nothing(store, _RESYNCS_S)
        store_leader = store.leader()
        store.kill(store_leader)
        versions.must_arrive("the store's leader killed")
        store.start_again(store_leader)
        for publisher in publishers.values():
            publisher.kill()
        world.api.delete("port", port)
        world.api.delete("security_group", group)
        versions.rename()
        for publisher in publishers.values():
            publisher.start()
        versions.must_come("no publisher there")
        versions.must_match()

        daemon.kill()
        daemon.start()
        wait_until("the host has it in force", lambda: daemon.status()["condition"] == "converged", 30)
        if sent := daemon.flow_mods():
            raise CheckFailed(f"the host's agent, restarted, sent {sent} flow-mods")
        cloud.must_hold()
        world.api.delete("port", cloud.v.port or "")
        world.settle(refused=world.probes(cloud.v, cloud.u) + world.probes(cloud.u, cloud.v))
        versions.must_match()
        return str(versions)


def _create_odd_ones(world: World) -> tuple[str, str]:
    """Groups and ports that have what the others have not; gives a group and the one port in it."""
    pairs = [{"ip_address": "10.77.0.222"}, {"ip_address": "fd77::/80", "mac_address": "fa:16:3e:00:00:22"}]
    port = {"network_id": world.networks["vlan"]["id"]}
    world.api.create("port", **port, allowed_address_pairs=pairs)
    world.api.create("port", **port, port_security_enabled=False, security_groups=[])
    group = world.group("stateless", stateful=False)
    for protocol in ("icmp", "sctp", "47"):
        world.allow(group, protocol)
    world.allow(group, "icmp", families=(4,), port_range_min="8", port_range_max="0")
    world.allow(group, None, families=(6,), remote_ip_prefix="fd00::/8")
    addresses = world.api.create("address_group", name="odd", addresses=["10.5.0.0/16", "fd05::1/128"])
    world.allow(group, "udp", 53, families=(4,), remote_address_group_id=addresses["id"])
    world.api.update("address_group", addresses["id"], name="even")
    gone = world.group("gone")
    return gone, world.api.create("port", **port, security_groups=[gone])["id"]


def _leading(publishers: dict[str, Served]) -> str:
    def leads() -> list[str]:
        waiting = {name: publisher.status()["waiting"] or "" for name, publisher in publishers.items()}
        # The others wait for the lock, or for the store.
        return [name for name, what in waiting.items() if what in ("", "Neutron")]

    return wait_until("a publisher leads", leads, 30)[0]


def _must_write_nothing(store: Store, for_s: float) -> None:
    before = store.revision()
    time.sleep(for_s)
    if written := store.revision() - before:
        raise CheckFailed(f"{written} transactions in {for_s} s although nothing has changed")


class _Versions:
    """A group whose name counts up, and a watch of the store: each name arrives, and none comes again."""

    def __init__(self, world: World, store: Store) -> None:
        self._world, self._store = world, store
        self._version = 0
        self._group = world.group("version")
        self._watch: Watch | None = None
        self._told: list[str] = []

    def __enter__(self) -> "_Versions":
        self._watch = self._store.watch()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.end()

    def __str__(self) -> str:
        return "a change arrives after " + ", ".join(self._told)

    def rename(self) -> None:
        self._version += 1
        self._world.api.update("security_group", self._group, name=self._name)

    def must_arrive(self, what: str) -> None:
        self.rename()
        self.must_come(what)

    def must_come(self, what: str) -> None:
        """The last one, after those before."""
        started = time.monotonic()
        try:
            wait_until(what, lambda: self._names()[-1:] == [self._name], _SOON_S, 0.02)
        except HarnessError as error:
            raise CheckFailed(f"{error}; the store has been told of {self._names()}") from None
        self._told.append(f"{time.monotonic() - started:.1f} s ({what})")
        names = self._names()
        numbers = [int(name.rpartition("v")[2]) for name in names]
        if numbers != sorted(set(numbers)):
            raise CheckFailed(f"the store went back: {names}")

    def must_match(self) -> None:
        """The store has what the API has."""

        def differences() -> list[str]:
            return _differences(_of_store(self._store.document()), _of_api(self._world.api))

        deadline = time.monotonic() + _SOON_S
        while differ := differences():
            if time.monotonic() > deadline:
                raise CheckFailed("; ".join(differ))

    @property
    def _name(self) -> str:
        return f"v{self._version}"

    def _names(self) -> list[str]:
        changes = self._watch.changes() if self._watch is not None else []
        of_group = [change["columns"] for change in changes if change["id"] == self._group]
        names = [name for columns in of_group for name in columns.get("name", {}).get("came", [])]
        return [name for name in names if name.startswith("v") and name[1:].isdigit()]


_Policy = dict[str, dict[str, Any]]


def _of_store(document: dict[str, Any]) -> _Policy:
    return _fields(document["security_groups"], document["address_groups"], document["ports"])


def _of_api(api: Api) -> _Policy:
    return _fields(*(api.find(collection) for collection in ("security_groups", "address_groups", "ports")))


def _fields(groups: list[Any], address_groups: list[Any], ports: list[Any]) -> _Policy:
    """What of an object is policy, by its kind and id."""
    found = {}
    for group in groups:
        rules = {rule["id"]: _rule(rule) for rule in group["security_group_rules"]}
        found[f"group {group['id']}"] = {"name": group["name"], "stateful": group["stateful"], "rules": rules}
    for group in address_groups:
        # A single address is written with a length of prefix or without.
        addresses = sorted(str(ipaddress.ip_network(address)) for address in group["addresses"])
        found[f"address group {group['id']}"] = {"name": group["name"], "addresses": addresses}
    for port in ports:
        fixed = sorted(address["ip_address"] for address in port["fixed_ips"])
        pairs = [(pair["ip_address"], pair.get("mac_address")) for pair in port["allowed_address_pairs"]]
        others = ("network_id", "mac_address", "device_owner", "binding:host_id")
        found[f"port {port['id']}"] = {
            "groups": sorted(port["security_groups"]),
            "fixed": fixed,
            "pairs": sorted(pairs),
            **{name: port.get(name) or None for name in others},
            "security": port.get("port_security_enabled", True),
        }
    return found


def _rule(rule: dict[str, Any]) -> tuple[Any, ...]:
    # Which of its names ICMPv6 has is no matter.
    protocol = "icmp" if rule.get("protocol") in ("ipv6-icmp", "icmpv6", "icmp") else rule.get("protocol")
    return (protocol, *(rule.get(name) for name in _RULE))


def _differences(held: _Policy, wanted: _Policy) -> list[str]:
    return [
        f"{name} is {held.get(name)} in the store, {wanted.get(name)} by the API"
        for name in sorted(held.keys() | wanted.keys())
        if held.get(name) != wanted.get(name)
    ]
