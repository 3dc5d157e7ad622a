"""Namespaces as machines: VMs on the integration bridge, plugged as nova and os-vif do, and machines of
other hosts, which are on the side of the physical network."""

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from harness import netns
from harness.shell import HarnessError, run
from harness.switch import INTEGRATION_BRIDGE, Switch

ECHO_PORTS = (22, 80, 443, 4444)
STREAM_PORT = 8000
_MTU = 1450
_ANSWER_S = 30


@dataclass
class Machine:
    """A namespace with one interface, and the program in it that takes orders."""

    name: str
    netns: str
    mac: str
    v4: str
    v6: str
    port: str | None = None
    """The Neutron port, if it has one."""
    tap: str = ""
    program: str = "harness.guest"
    """The module that runs in it."""
    _guest: "Guest | None" = field(default=None, repr=False)

    @property
    def guest(self) -> "Guest":
        if self._guest is None:
            raise HarnessError(f"{self.name} is not started")
        return self._guest

    def address(self, family: int) -> str:
        return self.v4 if family == 4 else self.v6

    @property
    def link_local(self) -> str:
        """From the MAC, as the kernel makes it (RFC 4291, appendix A)."""
        octets = bytes.fromhex(self.mac.replace(":", ""))
        identity = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
        return "fe80::" + ":".join(f"{identity[i] << 8 | identity[i + 1]:x}" for i in range(0, 8, 2))

    def start(self, switch_netns: str) -> None:
        """Makes its namespace and interface; the other end lies in the namespace of the switch, not yet
        plugged in."""
        netns.create(self.netns)
        # It must not make addresses or solicit routers of its own: the checks count what is sent.
        for setting in ("all", "default"):
            _sysctl(self.netns, f"net/ipv6/conf/{setting}/accept_ra", "0")
            _sysctl(self.netns, f"net/ipv6/conf/{setting}/accept_dad", "0")
        pair = ("type", "veth", "peer", "name", "eth0", "netns", self.netns)
        run("ip", "-n", switch_netns, "link", "add", self.tap, *pair)
        run("ip", "-n", self.netns, "link", "set", "eth0", "address", self.mac, "mtu", str(_MTU))
        # The userspace datapath takes a frame whose checksum the kernel has left to the card for invalid.
        run("nsenter", f"--net=/run/netns/{self.netns}", "ethtool", "-K", "eth0", "tx", "off")
        run("ip", "-n", self.netns, "link", "set", "eth0", "up")
        run("ip", "-n", self.netns, "address", "add", f"{self.v4}/24", "dev", "eth0")
        run("ip", "-n", self.netns, "address", "add", f"{self.v6}/64", "dev", "eth0", "nodad")
        run("ip", "-n", switch_netns, "link", "set", self.tap, "up")
        self._guest = Guest(self.name, self.netns, self.program)
        self.guest.ask("serve", echo=list(ECHO_PORTS), stream=[STREAM_PORT])

    def add_address(self, address: str) -> None:
        """One that is used only where it is asked for: an IPv6 address would else become the source of
        what is sent."""
        more = ("preferred_lft", "0", "nodad") if ":" in address else ()
        length = "128" if ":" in address else "32"
        run("ip", "-n", self.netns, "address", "replace", f"{address}/{length}", "dev", "eth0", *more)

    def forget_neighbours(self) -> None:
        """Makes it ask again where addresses are."""
        run("ip", "-n", self.netns, "neighbour", "flush", "dev", "eth0")

    def neighbours(self) -> str:
        return run("ip", "-n", self.netns, "neighbour")

    def plug_arguments(self, bridge: str = INTEGRATION_BRIDGE) -> list[str]:
        """For ovs-vsctl: as os-vif plugs in a VM's interface. No VLAN: that is the agent's."""
        if self.port is None:
            raise HarnessError(f"{self.name} has no Neutron port")
        identity = {
            "iface-id": self.port,
            "iface-status": "active",
            "attached-mac": self.mac,
            "vm-uuid": self.name,
        }
        keys = [f'external_ids:{key}="{value}"' for key, value in identity.items()]
        return [
            "--",
            "--may-exist",
            "add-port",
            bridge,
            self.tap,
            "--",
            "set",
            "Interface",
            self.tap,
            *keys,
        ]

    def end(self) -> None:
        if self._guest is not None:
            self._guest.end()


def plug(switch: Switch, machines: Sequence[Machine], bridge: str = INTEGRATION_BRIDGE) -> None:
    """Plugs several VMs in by one transaction, so that the agent sees them together."""
    switch.vsctl(*[argument for machine in machines for argument in machine.plug_arguments(bridge)])


def plug_outside(switch: Switch, machine: Machine, bridge: str, vlan: int | None) -> None:
    """Puts a machine of another host on a physical network."""
    tag = [f"tag={vlan}"] if vlan is not None else []
    switch.vsctl("add-port", bridge, machine.tap, *tag)


class Guest:
    """Orders to the program in a namespace, several at once if need be."""

    def __init__(self, name: str, namespace: str, program: str) -> None:
        self._name = name
        self._process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-m", program],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._numbers = count(1)
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._writing = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, order: str, **arguments: Any) -> "Answer":
        """Gives an order and does not wait."""
        number = next(self._numbers)
        answers = self._answers[number] = queue.SimpleQueue()
        line = json.dumps({"id": number, "do": order, **arguments})
        if self._process.stdin is None:
            raise HarnessError(f"{self._name} has no input")
        with self._writing:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return Answer(self._name, order, answers)

    def ask(self, order: str, **arguments: Any) -> Any:
        """Gives an order and waits for what comes of it."""
        return self.begin(order, **arguments).result()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            answer = json.loads(line)
            self._answers.pop(answer["id"]).put(answer)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Answer:
    """What an order comes to."""

    machine: str
    order: str
    _queue: "queue.SimpleQueue[dict[str, Any]]"

    def result(self) -> Any:
        try:
            answer = self._queue.get(timeout=_ANSWER_S)
        except queue.Empty:
            raise HarnessError(f"{self.machine} did not answer {self.order}") from None
        if "error" in answer:
            raise HarnessError(f"{self.machine}: {answer['error']}")
        return answer["result"]


def _sysctl(namespace: str, name: str, value: str) -> None:
    run("nsenter", f"--net=/run/netns/{namespace}", "sysctl", "-q", "-w", f"{name.replace('/', '.')}={value}")
