"""The machines, networks and groups that the checks have in common, and what they do with them."""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import frames
from harness.agent import HOST, PHYSICAL_BRIDGES, Agent
from harness.api import PROJECT, Api, Object
from harness.beside import Beside, Looker
from harness.drivers import Driver
from harness.frames import Endpoint, Frame
from harness.machine import STREAM_PORT, Machine, plug, plug_outside
from harness.services import PHYSNET_FLAT, PHYSNET_VLAN
from harness.shell import HarnessError, wait_until
from harness.switch import Switch

OTHER_HOST = "compute-2"
OPEN_PORT, CLOSED_PORT = 80, 4444
FAMILIES = (4, 6)
ETHERTYPE = {4: "IPv4", 6: "IPv6"}

_SEGMENT = 101
_SETTLE_S = 30
# Open vSwitch 3.1.0 in userspace can keep a datapath flow with actions that its tables gave earlier for as
# long as frames hit it: the revalidators compare what they remember of the flow, not the flow. Seen when a
# change meets traffic.
_PURGE_AFTER_S = 12
_ROUND_PAUSE_S = 0.3
_PROBE_S = 1.2
_ACTIVE_S = 90
_FLOOD_INTERVAL_S = 0.01
_TALK_INTERVAL_S = 0.01


class CheckFailed(Exception):
    """The firewall does not do what it should."""


@dataclass(frozen=True)
class Probe:
    """One attempt of a new connection."""

    source: str
    target: str
    kind: str
    address: str
    port: int
    from_address: str | None = None

    def __str__(self) -> str:
        family = "v6" if ":" in self.address else "v4"
        port = "" if self.kind == "ping" else f" {self.port}"
        return f"{self.source} to {self.target} {self.kind}{port} {family}"


class World:
    """Three networks (VLAN, flat, VXLAN), VMs on this host, machines of other hosts on the physical networks.

    On the VLAN network: VMs a, b and d in the project's default group; c in a group of its own that lets
    TCP and UDP port 80 in; t is a port as DHCP agents have it. On the other side of br-phys: m, whose port
    is bound to another host, and r, which Neutron knows nothing of. On the flat network: VM f, and s
    outside. On the tunnel network: VMs x and y."""

    def __init__(
        self, api: Api, switch: Switch, agent: Agent, driver: Driver, beside: Beside, prefix: str
    ) -> None:
        self.api = api
        self.switch = switch
        self.agent = agent
        self.driver = driver
        self.beside = beside
        self.new_ports = 0
        """How many a check creates that measures what that costs."""
        self.machines: dict[str, Machine] = {}
        self.deleted: set[str] = set()
        self.networks: dict[str, Object] = {}
        self.purges = 0
        self._prefix = prefix
        self._names = 0
        self.default_group = ""
        self.guard_group = ""

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    # Setting up.

    def describe(self) -> None:
        """Tells Neutron of it all, once it knows the agent: else it could not bind ports to this host."""
        wait_until(
            "the agent is known to Neutron", lambda: self.api.find("agents", f"host={HOST}"), _ACTIVE_S, 0.5
        )
        vlan = {"provider:network_type": "vlan", "provider:physical_network": PHYSNET_VLAN}
        flat = {"provider:network_type": "flat", "provider:physical_network": PHYSNET_FLAT}
        self.network("vlan", 77, vlan | {"provider:segmentation_id": _SEGMENT})
        self.network("flat", 78, flat)
        self.network("tunnel", 79, {"provider:network_type": "vxlan"})
        self.default_group = self.api.find("security_groups", f"project_id={PROJECT}&name=default")[0]["id"]
        self.guard_group = self.group("guard")
        for protocol in ("tcp", "udp"):
            self.allow(self.guard_group, protocol, OPEN_PORT)
        members = [self.default_group]
        self._vms("vlan", HOST, {"a": members, "b": members, "c": [self.guard_group], "d": members})
        self._vms("vlan", HOST, {"t": []}, device_owner="network:dhcp")
        self._vms("vlan", OTHER_HOST, {"m": [self.guard_group]})
        self._vms("flat", HOST, {"f": members})
        self._vms("tunnel", HOST, {"x": members, "y": members})
        self._outsider("r", 77)
        self._outsider("s", 78)

    def looker(self) -> Looker:
        """The commands that only look. Without a daemon, their policy is all that the API tells of groups and ports."""
        options = self.driver.looking_options()
        if not self.driver.has_daemon:
            collections = ("security_groups", "address_groups", "ports")
            policy = {name: self.api.find(name) for name in collections}
            options += ["--policy", self.beside.document(policy)]
        return self.beside.looker(options, self.driver.writer)

    def start_machines(self) -> None:
        for machine in self.machines.values():
            machine.start(self._prefix)
        for network, bridge in PHYSICAL_BRIDGES.items():
            outside, vlan = (("r", "m"), _SEGMENT) if network == PHYSNET_VLAN else (("s",), None)
            for name in outside:
                plug_outside(self.switch, self[name], bridge, vlan)

    def plug_all(self) -> None:
        """Plugs the VMs in and waits until Neutron has them up."""
        local = [machine for machine in self.machines.values() if machine.port and machine.name != "m"]
        plug(self.switch, local)
        for machine in local:
            self.wait_active(machine)

    def wait_active(self, machine: Machine) -> None:
        port = machine.port or ""
        wait_until(
            f"{machine.name} is up", lambda: self.api.get("port", port)["status"] == "ACTIVE", _ACTIVE_S, 0.5
        )

    def network(self, name: str, number: int, provider: Object, *, is_large: bool = False) -> None:
        """One with room for 90 ports, or for 4,000."""
        network = self.api.create("network", name=name, **provider)
        length, last4, last6 = (20, "15.254", "fff") if is_large else (24, "0.99", "99")
        for version, cidr, pool in (
            (4, f"10.{number}.0.0/{length}", (f"10.{number}.0.10", f"10.{number}.{last4}")),
            (6, f"fd{number}::/64", (f"fd{number}::10", f"fd{number}::{last6}")),
        ):
            pools = [{"start": pool[0], "end": pool[1]}]
            details = {"ip_version": version, "cidr": cidr, "enable_dhcp": False, "gateway_ip": None}
            self.api.create("subnet", network_id=network["id"], allocation_pools=pools, **details)
        self.networks[name] = network

    def plug_on(self, bridge: str, groups: dict[str, list[str]], host: str = OTHER_HOST) -> None:
        """VMs in these groups on the VLAN network, which Neutron takes for another host's, on a bridge that
        its agent has nothing to do with."""
        self._vms("vlan", host, groups)
        for name in groups:
            self[name].start(self._prefix)
        plug(self.switch, [self[name] for name in groups], bridge)

    def stranger(self, name: str) -> Machine:
        """Plugs in a machine on the VLAN network under a port id that Neutron does not know."""
        self._machine(name, "fa:16:3e:00:00:dd", "10.77.0.201", "fd77::201", str(uuid.uuid4()))
        self[name].start(self._prefix)
        plug(self.switch, [self[name]])
        return self[name]

    def _vms(
        self, network: str, host: str, groups: dict[str, list[str]], device_owner: str = "compute:nova"
    ) -> None:
        wanted = []
        for name, members in groups.items():
            port: Object = {"name": name, "network_id": self.networks[network]["id"], "binding:host_id": host}
            port |= {"device_owner": device_owner, "device_id": name}
            # A port of Neutron itself has no groups, and refuses even an empty list of them.
            wanted.append(port | ({"security_groups": members} if members else {}))
        for port in self.api.create_ports(wanted):
            addresses = [fixed["ip_address"] for fixed in port["fixed_ips"]]
            v4, v6 = sorted(addresses, key=lambda address: ":" in address)
            self._machine(port["name"], port["mac_address"], v4, v6, port["id"])

    def _outsider(self, name: str, number: int) -> None:
        self._machine(name, f"02:00:00:00:{number}:c8", f"10.{number}.0.200", f"fd{number}::200", None)

    def _machine(self, name: str, mac: str, v4: str, v6: str, port: str | None) -> None:
        tap = f"tap{port[:11]}" if port else f"out-{name}"
        self.machines[name] = Machine(name, f"{self._prefix}-{name}", mac, v4, v6, port, tap)

    # Groups and rules.

    def name(self, what: str) -> str:
        self._names += 1
        return f"{what}-{self._names}"

    def group(self, name: str, *, stateful: bool = True) -> str:
        return self.api.create("security_group", name=self.name(name), stateful=stateful)["id"]

    def allow(
        self,
        group: str,
        protocol: str | None,
        port: int | None = None,
        *,
        families: Iterable[int] = FAMILIES,
        **more: str,
    ) -> list[str]:
        """Adds one rule a family, ingress unless told otherwise, and gives their ids."""
        made = []
        for family in families:
            rule: Object = {
                "direction": "ingress",
                "ethertype": ETHERTYPE[family],
                "protocol": protocol,
                **more,
            }
            if protocol == "icmp" and family == 6:
                rule["protocol"] = "ipv6-icmp"
            if port is not None:
                rule |= {"port_range_min": port, "port_range_max": port}
            made.append(self.api.create("security_group_rule", security_group_id=group, **rule)["id"])
        return made

    def disallow(self, rules: Iterable[str]) -> None:
        for rule in rules:
            self.api.delete("security_group_rule", rule)

    @contextmanager
    def assigned(self, machine: Machine, groups: list[str]) -> Iterator[None]:
        """The machine's port in these groups, for a while."""
        port = machine.port or ""
        before = self.api.get("port", port)["security_groups"]
        self.api.update("port", port, security_groups=groups)
        try:
            yield
        finally:
            self.api.update("port", port, security_groups=before)

    # Probes.

    @staticmethod
    def probes(
        source: Machine,
        target: Machine,
        kinds: Sequence[str] = ("tcp", "udp", "ping"),
        port: int = 22,
        families: Iterable[int] = FAMILIES,
    ) -> list[Probe]:
        return [
            Probe(source.name, target.name, kind, target.address(family), port)
            for family in families
            for kind in kinds
        ]

    def settle(
        self, *, passes: Sequence[Probe] = (), refused: Sequence[Probe] = (), within_s: float = _SETTLE_S
    ) -> None:
        """Waits until new connections are let through, and refused, as told, twice in a row. What changes
        in Neutron takes a second or two to arrive; a check that nothing passes at any instant needs a
        flood beside it."""
        patience = _Patience(self, within_s)
        right_rounds = 0
        while True:
            wrong = self._wrong(passes, refused)
            right_rounds = 0 if wrong else right_rounds + 1
            if right_rounds == 2:
                return
            patience.wait(wrong)

    def _wrong(self, passes: Sequence[Probe], refused: Sequence[Probe]) -> list[str]:
        asked = []
        for probe, expected in [*((probe, True) for probe in passes), *((probe, False) for probe in refused)]:
            guest = self[probe.source].guest
            arguments = {
                "to": probe.address,
                "port": probe.port,
                "timeout": _PROBE_S,
                "source": probe.from_address,
            }
            asked.append((probe, expected, guest.begin(probe.kind, **arguments)))
        wrong = []
        for probe, expected, answer in asked:
            if answer.result() != expected:
                wrong.append(f"{probe} {'is refused' if expected else 'passes'}")
        return wrong

    # Frames made by hand.

    def arrivals(
        self, source: Machine, sent: dict[str, Frame], watchers: Sequence[Machine]
    ) -> dict[str, int]:
        """Sends frames a few times and gives how many of each came in at all the watchers together."""
        needles = {name: frame.marker.hex() for name, frame in sent.items()}
        for watcher in watchers:
            watcher.guest.ask("watch", name="arrivals", needles=needles)
        source.guest.ask("send", frames=[frame.data.hex() for frame in sent.values()])
        time.sleep(0.3)
        total = dict.fromkeys(sent, 0)
        for watcher in watchers:
            for name, count in watcher.guest.ask("end", name="arrivals").items():
                total[name] += count
            # A spoofed frame that arrives misleads the kernel there as well.
            watcher.forget_neighbours()
        return total

    def settle_frames(
        self,
        source: Machine,
        watchers: Sequence[Machine],
        *,
        passes: dict[str, Frame] | None = None,
        refused: dict[str, Frame] | None = None,
        within_s: float = _SETTLE_S,
    ) -> None:
        """As `settle`, for frames."""
        passes, refused = passes or {}, refused or {}
        patience = _Patience(self, within_s)
        while True:
            counts = self.arrivals(source, {**passes, **refused}, watchers)
            wrong = [f"{name} of {source.name} is refused" for name in passes if not counts[name]]
            wrong += [f"{name} of {source.name} passes" for name in refused if counts[name]]
            if not wrong:
                return
            patience.wait(wrong)

    @contextmanager
    def forbidden_flood(self, victim: Machine, sources: Sequence[Machine]) -> Iterator["Flood"]:
        """Frames that the victim must not get, from several machines without a pause, as long as this
        lasts; fails when one arrives."""
        flood = Flood(victim, sources)
        flood.start()
        try:
            yield flood
        finally:
            counts = flood.end()
        leaked = {name: count for name, count in counts.items() if count}
        if leaked:
            told = ", ".join(f"{count} of {name}" for name, count in leaked.items())
            raise CheckFailed(
                f"{sum(leaked.values())} forbidden frames of {flood.sent} reached {victim.name}: {told}"
            )
        if not flood.sent:
            raise HarnessError("the flood sent nothing")

    def describe_state(self, path: Path) -> None:
        """Writes down what the switch and the machines hold, for whoever looks into a failure."""
        said = [f"{machine.name}: {machine}" for machine in self.machines.values()]
        commands = [
            ("dpctl/dump-flows", "-m"),
            ("dpctl/dump-conntrack",),
            ("fdb/show", "br-int"),
            ("fdb/show", "br-phys"),
        ]
        try:
            for command in commands:
                said += [f"== {' '.join(command)}", self.switch.control(*command)]
            said += [
                "== br-int",
                *self.switch.dump_flows("br-int"),
                "== ports",
                self.switch.vsctl("list", "Port"),
            ]
        except HarnessError as error:
            said.append(f"the switch does not answer: {error}")
        said += [
            f"== neighbours of {machine.name}\n{machine.neighbours()}" for machine in self.machines.values()
        ]
        path.write_text("\n".join(said) + "\n")

    def purge(self, wrong: list[str]) -> None:
        """Makes the datapath forget; what is right afterwards was right in the tables before."""
        self.purges += 1
        print(
            f"         purging the datapath's caches, after {_PURGE_AFTER_S} s: {'; '.join(wrong)}",
            flush=True,
        )
        self.switch.control("revalidator/purge")

    def talks(self) -> "Talks":
        return Talks(self["c"], self["b"], self["r"])


class _Patience:
    """How long to wait for a change to arrive. Half-way, the caches of the datapath are thrown away, once,
    and it is counted: the report tells of it."""

    def __init__(self, world: World, within_s: float) -> None:
        self._world = world
        self._within_s = within_s
        self._started = time.monotonic()
        self._purged = False

    def wait(self, wrong: list[str]) -> None:
        """Before the next try; fails when the time is over and something is wrong still."""
        waited_s = time.monotonic() - self._started
        if wrong and waited_s > self._within_s:
            raise CheckFailed(f"after {self._within_s:g} s: {'; '.join(wrong)}")
        # sgflow has to see to the caches itself.
        has_excuse = not self._world.driver.has_daemon
        if wrong and has_excuse and waited_s > _PURGE_AFTER_S and not self._purged:
            self._purged = True
            self._world.purge(wrong)
        time.sleep(_ROUND_PAUSE_S)


class Flood:
    """Forbidden traffic of every kind at one victim: first packets, packets from the middle of TCP
    connections, both families."""

    def __init__(self, victim: Machine, sources: Sequence[Machine]) -> None:
        self._victim = victim
        self._sources = sources
        self.sent = 0

    def start(self) -> None:
        needles: dict[str, str] = {}
        by_source: dict[str, list[str]] = {}
        for source in self._sources:
            for family in FAMILIES:
                ends = (
                    Endpoint(source.mac, source.address(family)),
                    Endpoint(self._victim.mac, self._victim.address(family)),
                )
                for kind, frame in {
                    "tcp syn": frames.tcp(*ends, 50000 + family, CLOSED_PORT, syn=True),
                    "tcp mid-stream": frames.tcp(*ends, 51000 + family, CLOSED_PORT, syn=False),
                    "udp": frames.udp(*ends, 52000 + family, CLOSED_PORT),
                    "ping": frames.ping(*ends),
                }.items():
                    needles[f"{source.name} {kind} v{family}"] = frame.marker.hex()
                    by_source.setdefault(source.name, []).append(frame.data.hex())
        self._victim.guest.ask("watch", name="leaks", needles=needles)
        for source in self._sources:
            source.guest.ask("flood", name="flood", frames=by_source[source.name], interval=_FLOOD_INTERVAL_S)

    def end(self) -> dict[str, int]:
        for source in self._sources:
            self.sent += source.guest.ask("end", name="flood")["sent"]
        time.sleep(0.3)
        return self._victim.guest.ask("end", name="leaks")


class Talks:
    """Traffic that the guard group allows, without a pause: a host beyond the network and a VM on this
    host talk with c by TCP, the former also by UDP, over both families; c downloads from the network and
    says nothing itself."""

    def __init__(self, inside: Machine, local: Machine, outside: Machine) -> None:
        self._inside = inside
        self._local = local
        self._outside = outside
        self._going: dict[str, Machine] = {}

    def start(self) -> None:
        for family in FAMILIES:
            to = self._inside.address(family)
            for who in (self._outside, self._local):
                self._talk(who, f"tcp {who.name} to c v{family}", to, OPEN_PORT, "tcp")
            self._talk(self._outside, f"udp r to c v{family}", to, OPEN_PORT, "udp")
            self._talk(self._outside, f"new udp r to c v{family}", to, OPEN_PORT, "new udp")
            self._talk(self._local, f"new udp b to c v{family}", to, OPEN_PORT, "new udp")
            self._talk(self._inside, f"tcp c to r v{family}", self._outside.address(family), 443, "tcp")
            name = f"download c from r v{family}"
            self._inside.guest.ask("download", name=name, to=self._outside.address(family), port=STREAM_PORT)
            self._going[name] = self._inside

    def _talk(self, who: Machine, name: str, to: str, port: int, protocol: str) -> None:
        who.guest.ask("talk", name=name, to=to, port=port, interval=_TALK_INTERVAL_S, protocol=protocol)
        self._going[name] = who

    def end(self) -> dict[str, Object]:
        """Ends those that still go on, and gives what became of each."""
        going, self._going = self._going, {}
        return {name: who.guest.ask("end", name=name) for name, who in going.items()}

    def must_have_gone_on(self, *, stall_s: float, lost_share: float) -> "Toll":
        """Ends them and fails when one ended by itself, stood still for longer, or lost more; gives what it cost
        them."""
        figures = self.end()
        wrong = []
        lost = sent = 0
        longest_s = 0.0
        for name, figure in figures.items():
            if figure.get("error"):
                wrong.append(f"{name}: {figure['error']}")
            if figure.get("longest_stall_s", 0) > stall_s:
                wrong.append(f"{name} stood still for {figure['longest_stall_s']} s")
            longest_s = max(longest_s, figure.get("longest_stall_s", 0))
            if "lost" in figure:
                lost, sent = lost + figure["lost"], sent + figure["sent"]
                if figure["lost"] > lost_share * figure["sent"]:
                    wrong.append(f"{name} lost {figure['lost']} of {figure['sent']}")
        if wrong:
            raise CheckFailed("; ".join(wrong))
        return Toll(sent, lost, longest_s)


@dataclass
class Toll:
    """What something cost those who talk meanwhile."""

    sent: int
    """Datagrams, of established connections and first ones."""
    lost: int
    stall_s: float
    """The longest that a TCP connection stood still."""

    @property
    def share(self) -> float:
        return self.lost / max(self.sent, 1)

    def __str__(self) -> str:
        return f"{self.lost} of {self.sent} datagrams lost, longest stall of TCP {self.stall_s:.2f} s"


def logged_errors(log: Path, *words: str) -> list[str]:
    """Lines of a log with one of these words."""
    if not log.exists():
        return []
    return [
        line for line in log.read_text(errors="replace").splitlines() if any(word in line for word in words)
    ]
