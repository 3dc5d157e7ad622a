"""A host: Open vSwitch, machines, and what is made anew for each scenario: the bridge as Neutron's agent sets it
up, the daemon, and Neutron's own code around a driver that it loads by its name."""

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import br_int
from neutron_lib.callbacks import events, registry
from neutron_lib.callbacks import resources as callback_resources
from neutron_lib.plugins.ml2 import ovs_constants
from oslo_config import cfg

from driver_level.drivers import Daemon, Driver
from harness import frames
from harness.frames import Endpoint, Frame
from harness.machine import Answer, Machine
from harness.shell import HarnessError, run, wait_until
from harness.switch import Switch
from harness.world import CheckFailed
from tests.calls import Agent, Cloud, allow_out, port

FAMILIES = (4, 6)
# The local VLANs of two networks. The physical network has the same: its bridge has nothing to translate.
VLANS = {"blue": 11, "green": 12}
OTHER_HOST = "r"
_PHYSICAL_BRIDGE = "br-phys"
_PATCH, _PATCH_PEER = "int-br-phys", "phy-br-phys"
# How the cookies of flows begin that only look: `docs/pipeline.md`, kind 8.
_LOOKS = "0x536708"
_MACHINES = ("a", "b", "c", "d", OTHER_HOST)
_ARRIVES_S = 4.0
_GRACE_S = 0.02
_DEAF_GRACE_S = 0.35
_PROBE_S = 1.0
_STALL_S = 1.0
_RECONNECT_S = 20


class Host:
    """What lives as long as the run."""

    def __init__(self, prefix: str, rundir: Path, logs: Path, program: Path, controller: Any) -> None:
        self.switch = Switch(rundir, logs)
        self.machines: dict[str, Machine] = {}
        self.daemon_logs: list[Path] = []
        self._prefix = prefix
        self._rundir = rundir
        self._logs = logs
        self._program = program
        self._controller = controller
        self._bridges = itertools.count(1)

    def start(self) -> None:
        self.switch.start()
        bridge = ("add-br", _PHYSICAL_BRIDGE, "--", "set", "Bridge", _PHYSICAL_BRIDGE, "datapath_type=netdev")
        patch = (
            "add-port",
            _PHYSICAL_BRIDGE,
            _PATCH_PEER,
            "--",
            "set",
            "Interface",
            _PATCH_PEER,
            "type=patch",
        )
        self.switch.vsctl(*bridge, "--", *patch, f"options:peer={_PATCH}")
        for number, name in enumerate(_MACHINES, 1):
            mac, v4, v6 = f"fa:16:3e:00:00:{number:02x}", f"10.0.0.{number}", f"fd00::{number}"
            place = f"{self._prefix}-{name}"
            machine = Machine(name, place, mac, v4, v6, tap=f"tap-{name}", program="driver_level.guest")
            self.machines[name] = machine
            machine.start(self._prefix)
        self.switch.vsctl("add-port", _PHYSICAL_BRIDGE, f"tap-{OTHER_HOST}", f"tag={VLANS['blue']}")

    def stop(self) -> None:
        for machine in self.machines.values():
            machine.end()

    @contextmanager
    def stage(self, driver: Driver) -> Iterator["Stage"]:
        """A new bridge, and all that is on it."""
        name = f"br-{next(self._bridges):02d}"
        daemon = (
            Daemon(self._program, self.switch, name, self._rundir, self._logs) if driver.has_daemon else None
        )
        stage = Stage(self, driver, name, daemon)
        fault = None
        try:
            stage.begin(self._controller)
            fault = driver.fault(self.switch, name) if driver.fault else None
            yield stage
        finally:
            if fault:
                fault.end()
            stage.end()
            if daemon:
                self.daemon_logs.append(daemon.log)


@dataclass(frozen=True)
class Probe:
    """One attempt of a new connection, by the sockets of the machines."""

    source: Machine
    kind: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.source.name} to {self.address} {self.kind}" + (
            "" if self.kind == "ping" else f" {self.port}"
        )


class Stage:
    """What a scenario is played on."""

    def __init__(self, host: Host, driver: Driver, name: str, daemon: Daemon | None) -> None:
        self.host = host
        self.switch = host.switch
        self.name = name
        self.cloud = Cloud()
        self.driver = driver
        self._daemon = daemon
        self.ids: dict[str, str] = {}
        self._vlans: dict[str, int] = {}
        self._source_ports = itertools.count(20000)
        self._controller: Any = None
        self.bridge: Any = None
        self.agent: Any = None

    # Its beginning and its end.

    def begin(self, controller: Any) -> None:
        self._controller = controller
        if self._daemon:
            self._daemon.start()
        self.bridge = self._new_bridge()
        patch = ("add-port", self.name, _PATCH, "--", "set", "Interface", _PATCH, "type=patch")
        self.switch.vsctl(*patch, f"options:peer={_PATCH_PEER}")
        uplink = self.ofport(_PATCH)
        self.bridge.drop_port(in_port=uplink)
        for vlan in VLANS.values():
            self.bridge.provision_local_vlan(uplink, vlan, vlan)
        self.agent = Agent(self.cloud, self.bridge, self.driver.loaded)

    def end(self) -> None:
        self._close_driver()
        # Neutron's own driver never lets go of its bridge: it would wait for the flows of one that is gone.
        registry.clear()
        if self._daemon:
            self._daemon.stop()
        self.switch.vsctl("--if-exists", "del-br", self.name)
        # Neutron's own driver tracks all bridges' connections in the zones of the same VLANs.
        run("ovs-appctl", "dpctl/flush-conntrack", env=self.switch.environment)
        for machine in self.host.machines.values():
            run("ip", "-n", machine.netns, "neighbour", "flush", "dev", "eth0")

    def _new_bridge(self) -> br_int.OVSIntegrationBridge:
        """As an agent that starts sets it up; for one that is there, what does it good is told again."""
        bridge = br_int.OVSIntegrationBridge(self.name, datapath_type="netdev", os_ken_app=self._controller)
        bridge.create()
        bridge.set_secure_mode()
        bridge.setup_controllers(cfg.CONF)
        bridge.setup_default_table()
        bridge.setup_canary_table()
        return bridge

    def _close_driver(self) -> None:
        close = getattr(self.agent and self.agent.driver, "close", None)
        if close:
            close()

    def restart_agent(self) -> None:
        """Another agent: other cookies, and nothing known but what it is told anew. Its first rounds end with
        the removal of flows whose cookies it does not know."""
        self._close_driver()
        self.bridge = self._new_bridge()
        self.agent = Agent(self.cloud, self.bridge, self.driver.loaded)
        self.agent.plug(*self.ids.values())
        self.agent.plug(*self.ids.values())
        self.bridge.cleanup_flows()

    def after_switch_restart(self) -> None:
        """What the agent does when it finds its canary gone, in its order."""
        wait_until("the switch is known to be restarted", self._is_restarted, _RECONNECT_S, 0.05)
        self.bridge.setup_default_table()
        self.bridge.setup_canary_table()
        uplink = self.ofport(_PATCH)
        self.bridge.drop_port(in_port=uplink)
        registry.publish(callback_resources.AGENT, events.OVS_RESTARTED, self)
        for vlan in VLANS.values():
            self.bridge.provision_local_vlan(uplink, vlan, vlan)
        self.agent.plug(*self.ids.values())

    def _is_restarted(self) -> bool:
        return self.bridge.check_canary_table() == ovs_constants.OVS_RESTARTED

    @property
    def daemon(self) -> Daemon:
        if self._daemon is None:
            raise HarnessError("this driver has no daemon")
        return self._daemon

    # Groups and ports.

    def group(self, name: str, *rules: dict[str, Any], stateless: bool = False) -> str:
        self.cloud.groups[name] = [*rules]
        if stateless:
            self.cloud.stateless.add(name)
        return name

    def describe(self, name: str, *groups: str, network: str = "blue", **more: Any) -> dict[str, Any]:
        """Gives a machine its Neutron port, as `tests.calls.port` has it, plugged in or not."""
        machine = self.host.machines[name]
        identity = self.ids.setdefault(name, str(uuid.uuid4()))
        for group in groups:
            self.cloud.groups.setdefault(group, allow_out())
        addresses = [machine.v4, machine.v6]
        told = port(
            identity,
            machine.mac,
            addresses,
            groups,
            network=str(uuid.uuid5(uuid.NAMESPACE_DNS, network)),
            **more,
        )
        self.cloud.add(told)
        self._vlans[name] = VLANS[network]
        return told

    def up(self, **groups: Sequence[str] | str) -> list[Machine]:
        """Plugs machines in, each with its groups, as os-vif and the agent do; gives them back."""
        for name, carried in groups.items():
            if name not in self.ids:
                self.describe(name, *([carried] if isinstance(carried, str) else carried))
        names = list(groups)
        self.plug_in(*names)
        self.agent.plug(*(self.ids[name] for name in names))
        return [self.host.machines[name] for name in names]

    def plug_in(self, *names: str) -> None:
        """The interface, as os-vif does; then, when the agent has seen it, the VLAN, and what else the agent
        writes down. It tells its driver after that."""
        added = []
        for name in names:
            tap, known = self.host.machines[name].tap, self.cloud.ports[self.ids[name]]
            added += ["--", "add-port", self.name, tap, "--", "set", "Interface", tap]
            added += [
                f'external_ids:iface-id="{known["id"]}"',
                f'external_ids:attached-mac="{known["mac_address"]}"',
            ]
            added += ["external_ids:iface-status=active"]
        self.switch.vsctl(*added)
        for name in names:
            tap, vlan, known = (
                self.host.machines[name].tap,
                self._vlans[name],
                self.cloud.ports[self.ids[name]],
            )
            ofport = self.ofport(tap)

            def is_seen(identity: str = known["id"], ofport: int = ofport) -> bool:
                seen = self.bridge.get_vif_port_by_id(identity)
                return seen is not None and seen.ofport == ofport

            wait_until(f"the agent sees {tap}", is_seen, _ARRIVES_S, 0.01)
            self.bridge.set_db_attribute("Port", tap, "tag", vlan)
            settings = {
                "net_uuid": known["network_id"],
                "physical_network": "physnet",
                "network_type": "vlan",
            }
            settings |= {"tag": str(vlan), "segmentation_id": str(vlan)}
            self.bridge.set_db_attribute("Port", tap, "other_config", settings)

    def pull_out(self, name: str) -> None:
        self.switch.vsctl("del-port", self.name, self.host.machines[name].tap)

    def change(self, name: str, *groups: str, **more: Any) -> None:
        """An update of a port through the API, by the agent's way."""
        self.describe(name, *groups, **more)
        self.agent.update(self.ids[name])

    def rules(self, group: str, *rules: dict[str, Any]) -> None:
        """A group has these rules from now on."""
        self.cloud.groups[group] = [*rules]
        self.agent.rules_changed(group)

    def ofport(self, interface: str) -> int:
        return int(self.switch.vsctl("get", "Interface", interface, "ofport"))

    def flows(self) -> dict[str, tuple[str, float, int]]:
        """Of each flow, by table, priority and match: cookie and actions, age in seconds, packets.

        But for those that only look, which come and go with what is dropped.
        """
        found = {}
        for line in run(
            "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", self.name, env=self.switch.environment
        ).splitlines():
            if "cookie=" not in line:
                continue
            head, _, actions = line.strip().partition(" actions=")
            stated, _, match = head.rpartition(", ")
            facts = dict(fact.split("=", 1) for fact in stated.split(", ") if "=" in fact)
            if facts["cookie"].startswith(_LOOKS):
                continue
            match = match.removeprefix("send_flow_rem ")
            key = f"table={facts['table']} {match}"
            # What a learnt or reset counter adds is no part of the flow.
            found[key] = (
                f"{facts['cookie']} {actions}",
                float(facts["duration"].rstrip("s")),
                int(facts["n_packets"]),
            )
        return found

    @staticmethod
    def must(right: bool, what: str) -> None:
        if not right:
            raise CheckFailed(what)

    def hook(self) -> dict[str, str]:
        """The flows by which frames enter the firewall, and the cookie of each."""
        return {
            key: text.split()[0]
            for key, (text, _, _) in self.flows().items()
            if key.startswith(f"table={ovs_constants.TRANSIENT_TABLE} ") and text.endswith(" resubmit(,100)")
        }

    # Verdicts over frames made by hand: exact, since frames of one sender are judged one after the other.

    def source_port(self) -> int:
        """One that makes a new connection."""
        return next(self._source_ports)

    def end_of(self, name: str, family: int) -> Endpoint:
        machine = self.host.machines[name]
        return Endpoint(machine.mac, machine.address(family))

    def arrivals(
        self,
        source: str,
        sent: Mapping[str, Frame],
        to: Sequence[str],
        awaited: Iterable[str] = (),
        *,
        witness: str | None = None,
        deaf: bool = False,
    ) -> dict[str, set[str]]:
        """Sends each frame once; gives which of them came in, by machine. An ARP reply is sent behind them, to
        each machine or to the witness: when it has come, everything before it has been judged. Where ARP does
        not pass at all (`deaf`) there is nothing but time to wait for."""
        last = (
            {} if deaf else {name: self._last_word(source, name) for name in ([witness] if witness else to)}
        )
        markers = {frame.marker.hex(): key for key, frame in sent.items()}
        awaited = [sent[key].marker.hex() for key in awaited]
        data = [frame.data.hex() for frame in [*sent.values(), *last.values()]]
        self.host.machines[source].guest.ask("frames", frames=data)
        for name, frame in last.items():
            end = [frame.marker.hex()]
            if self._hear(name, end, end, _ARRIVES_S, 0).result() != end:
                raise CheckFailed(f"not even ARP passes from {source} to {name}")
        timeout, grace = _ARRIVES_S if awaited else 0, _DEAF_GRACE_S if deaf else _GRACE_S
        asked = {name: self._hear(name, list(markers), awaited, timeout, grace) for name in to}
        return {name: {markers[marker] for marker in answer.result()} for name, answer in asked.items()}

    def _hear(self, name: str, markers: list[str], until: list[str], timeout: float, grace: float) -> Answer:
        guest = self.host.machines[name].guest
        return guest.begin("heard", markers=markers, until=until, timeout=timeout, grace=grace)

    def _last_word(self, source: str, target: str) -> Frame:
        sender = self.host.machines[source]
        return frames.arp_reply(sender.mac, sender.v4, self.end_of(target, 4))

    def judge(
        self,
        source: str,
        *to: str,
        passes: Mapping[str, Frame] | None = None,
        refused: Mapping[str, Frame] | None = None,
        witness: str | None = None,
        deaf: bool = False,
    ) -> None:
        """Each of these frames arrives at every one of the machines, or at none."""
        passes, refused = passes or {}, refused or {}
        arrived = self.arrivals(source, {**passes, **refused}, to, passes, witness=witness, deaf=deaf)
        wrong = []
        for name, came in arrived.items():
            wrong += [f"{key} is refused from {source} to {name}" for key in passes if key not in came]
            wrong += [f"{key} passes from {source} to {name}" for key in refused if key in came]
        if wrong:
            raise CheckFailed("; ".join(wrong))

    def firsts(
        self,
        source: str,
        target: str,
        family: int,
        *,
        tcp: Iterable[int] = (),
        udp: Iterable[int] = (),
        ping: bool = False,
    ) -> dict[str, Frame]:
        """First packets of new connections."""
        ends = (self.end_of(source, family), self.end_of(target, family))
        made = {f"tcp {to} v{family}": frames.tcp(*ends, self.source_port(), to, syn=True) for to in tcp}
        made |= {f"udp {to} v{family}": frames.udp(*ends, self.source_port(), to) for to in udp}
        if ping:
            made[f"ping v{family}"] = frames.ping(*ends)
        return made

    # Verdicts over real connections.

    def probes(
        self, source: str, target: str, kinds: Sequence[str] = ("tcp", "udp", "ping"), port: int = 80
    ) -> list[Probe]:
        sender, receiver = self.host.machines[source], self.host.machines[target]
        return [Probe(sender, kind, receiver.address(family), port) for family in FAMILIES for kind in kinds]

    def connect(self, *, passes: Sequence[Probe] = (), refused: Sequence[Probe] = ()) -> None:
        """New connections, there and back, all at once."""
        asked = []
        for probe, expected in [*((probe, True) for probe in passes), *((probe, False) for probe in refused)]:
            timeout = _ARRIVES_S if expected else _PROBE_S
            arguments = {"to": probe.address, "port": probe.port, "timeout": timeout}
            asked.append((probe, expected, probe.source.guest.begin(probe.kind, **arguments)))
        wrong = [
            f"{probe} {'is refused' if expected else 'passes'}"
            for probe, expected, answer in asked
            if answer.result() != expected
        ]
        if wrong:
            raise CheckFailed("; ".join(wrong))

    @contextmanager
    def going(self, **activities: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Activities of machines beside what is done meanwhile, by name: `who`, `do` and its arguments. The
        figures are in the dictionary afterwards."""
        figures: dict[str, Any] = {}
        begun = {}
        try:
            for name, activity in activities.items():
                arguments = dict(activity)
                who, order = self.host.machines[arguments.pop("who")], arguments.pop("do")
                who.guest.ask(order, name=name, **arguments)
                begun[name] = who
            yield figures
        finally:
            for name, who in begun.items():
                figures[name] = who.guest.ask("end", name=name)

    def must_not_have_heard(self, name: str, sent: Mapping[str, Frame]) -> None:
        """After they were sent in the background."""
        markers = [frame.marker.hex() for frame in sent.values()]
        leaked = self._hear(name, markers, [], 0, _DEAF_GRACE_S).result()
        self.must(not leaked, f"{len(leaked)} of {len(sent)} forbidden frames reached {name}")

    def must_have_gone_on(self, figures: Mapping[str, Mapping[str, Any]]) -> str:
        """Talks that lost nothing, did not end, and stood still for no longer than a busy machine may; their
        figures in short."""
        wrong, lost, sent, longest_s = [], 0, 0, 0.0
        for name, figure in figures.items():
            if figure.get("error"):
                wrong.append(f"{name}: {figure['error']}")
            if figure.get("lost"):
                wrong.append(
                    f"{name} lost {figure['lost']} of {figure['sent']}, first {figure['first_lost']}"
                )
            stall_s = figure.get("longest_stall_s", 0.0)
            if stall_s > _STALL_S:
                wrong.append(f"{name} stood still for {stall_s} s")
            lost, sent = lost + figure.get("lost", 0), sent + figure.get("sent", 0)
            longest_s = max(longest_s, stall_s)
        self.must(not wrong, "; ".join(wrong))
        return f"{lost} of {sent} datagrams lost, longest stall of TCP {longest_s:.2f} s"
