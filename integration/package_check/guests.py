"""Two guests on the integration bridge, and what they can say to each other."""

import subprocess
import sys
from collections.abc import Sequence

from package_check.machine import Machine
from package_check.shell import Failed, wait_until

BRIDGE = "br-int"
NETWORK = "net-1"
_GUESTS = {"vm1": ("fa:16:3e:00:00:01", "10.0.0.1"), "vm2": ("fa:16:3e:00:00:02", "10.0.0.2")}
# Plugged in behind a hybrid bridge, and only for as long as there is a driver for that.
_HYBRID_GUEST = {"vm3": ("fa:16:3e:00:00:03", "10.0.0.3")}

_SERVE = """
import socket, sys, threading
def serve(port):
    listener = socket.create_server(("10.0.0.2", port))
    print(port, flush=True)
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"%d" % port)
        connection.close()
for port in map(int, sys.argv[1:]):
    threading.Thread(target=serve, args=[port]).start()
"""
_ASK = """
import socket, sys
connection = socket.create_connection(("10.0.0.2", int(sys.argv[1])), timeout=1.5)
connection.settimeout(1.5)
print(connection.recv(16).decode())
"""


def policy(ports: Sequence[int]) -> str:
    """The document of all guests: TCP to these ports of the second one is admitted."""
    ingress = "".join(
        f"    {{id: i{port}, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: {port}, "
        f"port_range_max: {port}}},\n"
        for port in ports
    )
    guests = "".join(
        f'- {{id: {name}, network_id: {NETWORK}, mac_address: "{mac}", '
        f"fixed_ips: [{{ip_address: {address}}}], security_groups: [g]}}\n"
        for name, (mac, address) in (_GUESTS | _HYBRID_GUEST).items()
    )
    return (
        "security_groups:\n- {id: g, security_group_rules: [\n"
        + ingress
        + "    {id: e4, direction: egress, ethertype: IPv4}]}\nports:\n"
        + guests
    )


class Guests:
    """Namespaces as guests, with servers at some ports of the second one."""

    def __init__(self, machine: Machine, ports: Sequence[int]) -> None:
        self._machine = machine
        self._server: subprocess.Popen[str] | None = None
        machine.run(
            "ovs-vsctl",
            "--",
            "add-br",
            BRIDGE,
            "--",
            "set",
            "bridge",
            BRIDGE,
            "fail_mode=secure",
            "datapath_type=netdev",
        )
        for name, (mac, address) in _GUESTS.items():
            self._plug(name, mac, address)
        self._serve(ports)

    def _plug(self, name: str, mac: str, address: str) -> None:
        run = self._machine.run
        tap = f"tap-{name}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", name, "address", mac)
        run("ip", "link", "set", tap, "up")
        run("ip", "address", "add", f"{address}/24", "dev", "eth0", netns=name)
        run("ip", "link", "set", "eth0", "up", netns=name)
        # The datapath in userspace takes a packet whose checksum is to be made by a device for a wrong one.
        subprocess.run(
            [*self._machine.outside(name), "ethtool", "-K", "eth0", "tx", "off"],
            check=True,
            capture_output=True,
        )
        run(
            "ovs-vsctl",
            "add-port",
            BRIDGE,
            tap,
            "--",
            "set",
            "interface",
            tap,
            f"external_ids:iface-id={name}",
            f'external_ids:attached-mac="{mac}"',
            "--",
            "set",
            "port",
            tap,
            "tag=10",
        )

    def _serve(self, ports: Sequence[int]) -> None:
        argv = [*self._machine.outside("vm2"), sys.executable, "-c", _SERVE, *map(str, ports)]
        self._server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        for _ in ports:
            if self._server.stdout is None or not self._server.stdout.readline():
                raise Failed("the second guest's servers do not start")

    def reaches(self, port: int) -> bool:
        """Whether the first guest has an answer from that port of the second."""
        argv = [*self._machine.outside("vm1"), sys.executable, "-c", _ASK, str(port)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode == 0 and done.stdout.strip() == str(port)

    def expect(self, when: str, **wanted: bool) -> None:
        """What is reached, as `p80=True`; a little later at the latest, for a switch has caches."""
        seen: dict[str, bool] = {}

        def is_wanted() -> bool:
            seen.update({name: self.reaches(int(name[1:])) for name in wanted})
            return seen == wanted

        try:
            wait_until(when, is_wanted, within_s=15)
        except Failed:
            raise Failed(f"{when}: wanted {wanted}, seen {seen}") from None

    def end(self) -> None:
        """Ends the servers."""
        if self._server is not None:
            self._server.kill()
            self._server.wait(timeout=10)
