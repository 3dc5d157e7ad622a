"""What runs inside a namespace that plays a machine. It takes orders as JSON lines on standard input, does
each in a thread of its own, and gives one line back an order. It ends with its standard input.

    {"id": 1, "do": "tcp", "to": "10.0.0.5", "port": 80}   ->   {"id": 1, "result": true}"""

import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

INTERFACE = "eth0"
RECORD_BYTES = 8
_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_STREAM_INTERVAL_S = 0.01


class Guest:
    """The orders, by name; what they keep, by the name that the order gave it."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}
        self._orders: dict[str, Callable[..., Any]] = {
            "serve": self.serve,
            "tcp": self.tcp,
            "udp": self.udp,
            "ping": self.ping,
            "connect": self.connect,
            "exchange": self.exchange,
            "watch": self.watch,
            "talk": self.talk,
            "download": self.download,
            "send": self.send,
            "flood": self.flood,
            "count": self.count,
            "state": self.state,
            "end": self.end,
        }

    def obey(self, line: str) -> str:
        order = json.loads(line)
        identity, name = order.pop("id"), order.pop("do")
        try:
            return json.dumps({"id": identity, "result": self._orders[name](**order)})
        except Exception as error:
            return json.dumps({"id": identity, "error": f"{name}: {error!r}"})

    # Servers.

    def serve(self, echo: list[int], stream: list[int]) -> bool:
        """Echoes TCP and UDP on some ports, of both families; on others, sends numbered records to who
        connects."""
        for port in echo:
            self._accept(port, _echo)
            datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            datagrams.bind(("::", port))
            _background(_echo_datagrams, datagrams)
        for port in stream:
            self._accept(port, _send_records)
        return True

    @staticmethod
    def _accept(port: int, serve: Callable[[socket.socket], None]) -> None:
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                _background(serve, connection)

        _background(accept)

    # Probes: does a new connection pass, now?

    def tcp(self, to: str, port: int, timeout: float, source: str | None = None) -> bool:
        try:
            bound = (source, 0) if source else None
            with socket.create_connection((to, port), timeout, bound) as connection:
                return _exchange(connection)
        except OSError:
            return False

    def udp(self, to: str, port: int, timeout: float, source: str | None = None) -> bool:
        with _datagram_socket(to, source) as probe:
            probe.connect((to, port))
            return _ask(probe, os.urandom(RECORD_BYTES), timeout)

    def ping(self, to: str, timeout: float, port: int = 0, source: str | None = None) -> bool:
        """An echo request with an identifier of its own, so that it is a new connection."""
        v6 = ":" in to
        family, protocol = (
            (socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else (socket.AF_INET, socket.IPPROTO_ICMP)
        )
        identity, payload = os.urandom(2), os.urandom(RECORD_BYTES)
        body = struct.pack("!BBH", 128 if v6 else 8, 0, 0) + identity + b"\0\1" + payload
        if not v6:
            body = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
        with socket.socket(family, socket.SOCK_RAW, protocol) as probe:
            if source:
                probe.bind((source, 0))
            deadline = time.monotonic() + timeout
            try:
                probe.sendto(body, (to, 0))
                while (left := deadline - time.monotonic()) > 0:
                    probe.settimeout(left)
                    answer = probe.recv(2048)
                    if not v6:
                        answer = answer[(answer[0] & 15) * 4 :]
                    if answer[0] == (129 if v6 else 0) and answer[4:6] == identity and payload in answer:
                        return True
            except OSError:
                pass
            return False

    # Connections that live on.

    def connect(self, name: str, to: str, port: int, timeout: float) -> bool:
        connection = socket.create_connection((to, port), timeout)
        self._kept[name] = connection
        return _exchange(connection)

    def exchange(self, name: str, timeout: float) -> bool:
        """Whether a connection still carries data there and back; retransmission is up to TCP."""
        connection = self._kept[name]
        connection.settimeout(timeout)
        try:
            return _exchange(connection)
        except OSError:
            return False

    def talk(self, name: str, to: str, port: int, interval: float, protocol: str) -> bool:
        """Sends numbered records to an echo server in a steady pace and counts what comes back."""
        kinds = {"tcp": _TcpTalk, "udp": _UdpTalk, "new udp": _NewUdpTalk}
        self._keep_background(name, kinds[protocol](to, port, interval))
        return True

    def download(self, name: str, to: str, port: int) -> bool:
        """Only receives what a server sends: this side says nothing but TCP's own acknowledgements."""
        self._keep_background(name, _Download(to, port))
        return True

    # Raw frames.

    def send(self, frames: list[str], times: int = 3, interval: float = 0.05) -> bool:
        with _packet_socket() as raw:
            for _ in range(times):
                for frame in frames:
                    raw.send(bytes.fromhex(frame))
                time.sleep(interval)
        return True

    def flood(self, name: str, frames: list[str], interval: float) -> bool:
        """Sends the frames over and over until `end`."""
        self._keep_background(name, _Flood([bytes.fromhex(frame) for frame in frames], interval))
        return True

    def watch(self, name: str, needles: dict[str, str]) -> bool:
        """Counts the frames that come in with one of these byte strings in them, until `end`."""
        self._keep_background(name, _Watch({key: bytes.fromhex(needle) for key, needle in needles.items()}))
        return True

    # What goes on in the background.

    def _keep_background(self, name: str, activity: "_Activity") -> None:
        self._kept[name] = activity
        _background(activity.go)

    def count(self, name: str) -> dict[str, Any]:
        return self._kept[name].figures()

    def end(self, name: str) -> dict[str, Any]:
        kept = self._kept.pop(name)
        if isinstance(kept, _Activity):
            kept.end()
            return kept.figures()
        kept.close()
        return {}

    def state(self) -> list[str]:
        return sorted(self._kept)


class _Activity:
    """Something that goes on until it is ended."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._over = threading.Event()

    def go(self) -> None:
        try:
            self.work()
        finally:
            self._over.set()

    def work(self) -> None:
        raise NotImplementedError

    def figures(self) -> dict[str, Any]:
        raise NotImplementedError

    def end(self) -> None:
        self._ended.set()
        self._over.wait(5)

    def going(self) -> bool:
        return not self._ended.is_set()


class _Flood(_Activity):
    def __init__(self, frames: list[bytes], interval: float) -> None:
        super().__init__()
        self._frames = frames
        self._interval = interval
        self._sent = 0
        self._refused = 0

    def work(self) -> None:
        with _packet_socket() as raw:
            while self.going():
                for frame in self._frames:
                    try:
                        raw.send(frame)
                        self._sent += 1
                    except OSError:
                        # The other end of the pair is down while the switch is not there.
                        self._refused += 1
                time.sleep(self._interval)

    def figures(self) -> dict[str, Any]:
        return {"sent": self._sent, "refused": self._refused}


class _Watch(_Activity):
    def __init__(self, needles: dict[str, bytes]) -> None:
        super().__init__()
        self._needles = needles
        self._counts = dict.fromkeys(needles, 0)
        self._raw = _packet_socket(_ETH_P_ALL)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._raw.settimeout(0.2)

    def work(self) -> None:
        with self._raw:
            while self.going():
                try:
                    frame, source = self._raw.recvfrom(65536)
                except TimeoutError:
                    continue
                if source[2] == _PACKET_OUTGOING:
                    continue
                for name, needle in self._needles.items():
                    if needle in frame:
                        self._counts[name] += 1

    def figures(self) -> dict[str, Any]:
        return dict(self._counts)


class _TcpTalk(_Activity):
    """A record at a time, each echoed: nothing is lost in TCP, but it may stall or end."""

    def __init__(self, to: str, port: int, interval: float) -> None:
        super().__init__()
        self._connection = socket.create_connection((to, port), 5)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.settimeout(0.5)
        self._interval = interval
        self._echoed = 0
        self._last = time.monotonic()
        self._longest_s = 0.0
        self._error: str | None = None

    def work(self) -> None:
        with self._connection as connection:
            number = 0
            while self.going():
                try:
                    connection.sendall(struct.pack("!Q", number))
                    if not self._receive(connection):
                        return
                except OSError as error:
                    self._error = repr(error)
                    return
                number += 1
                self._echoed = number
                now = time.monotonic()
                self._longest_s = max(self._longest_s, now - self._last)
                self._last = now
                time.sleep(self._interval)

    def _receive(self, connection: socket.socket) -> bool:
        missing = RECORD_BYTES
        while missing:
            try:
                data = connection.recv(missing)
            except TimeoutError:
                if not self.going():
                    return False
                continue
            if not data:
                self._error = "closed by the other side"
                return False
            missing -= len(data)
        return True

    def figures(self) -> dict[str, Any]:
        silent_s = max(self._longest_s, time.monotonic() - self._last) if self.going() else self._longest_s
        return {"echoed": self._echoed, "longest_stall_s": round(silent_s, 2), "error": self._error}


class _UdpTalk(_Activity):
    """Numbered datagrams, sent without waiting; each that comes back is ticked off."""

    def __init__(self, to: str, port: int, interval: float) -> None:
        super().__init__()
        self._socket = _datagram_socket(to, None)
        self._socket.connect((to, port))
        self._socket.setblocking(False)
        self._interval = interval
        self._sent = 0
        self._echoed: set[int] = set()

    def work(self) -> None:
        with self._socket:
            while self.going():
                with suppress(OSError):
                    self._socket.send(struct.pack("!Q", self._sent))
                self._sent += 1
                self._tick_off()
                time.sleep(self._interval)
            time.sleep(0.5)
            self._tick_off()

    def _tick_off(self) -> None:
        try:
            while True:
                self._echoed.add(struct.unpack("!Q", self._socket.recv(RECORD_BYTES))[0])
        except OSError:
            pass

    def figures(self) -> dict[str, Any]:
        missing = sorted(set(range(self._sent)) - self._echoed)
        return {"sent": self._sent, "lost": len(missing), "first_lost": missing[:5]}


class _NewUdpTalk(_Activity):
    """Numbered datagrams, each the first one of a connection of its own; each that comes back is ticked off."""

    _PATIENCE_S = 2.0

    def __init__(self, to: str, port: int, interval: float) -> None:
        super().__init__()
        self._to = to
        self._port = port
        self._interval = interval
        self._sent = 0
        self._lost: list[int] = []
        self._waiting: list[tuple[float, int, socket.socket]] = []

    def work(self) -> None:
        while self.going():
            connection = _datagram_socket(self._to, None)
            connection.connect((self._to, self._port))
            connection.setblocking(False)
            with suppress(OSError):
                connection.send(struct.pack("!Q", self._sent))
            self._waiting.append((time.monotonic(), self._sent, connection))
            self._sent += 1
            self._tick_off(self._PATIENCE_S)
            time.sleep(self._interval)
        time.sleep(0.5)
        self._tick_off(0)

    def _tick_off(self, patience_s: float) -> None:
        waiting, self._waiting = self._waiting, []
        for since, number, connection in waiting:
            try:
                connection.recv(RECORD_BYTES)
            except OSError:
                if time.monotonic() < since + patience_s:
                    self._waiting.append((since, number, connection))
                    continue
                self._lost.append(number)
            connection.close()

    def figures(self) -> dict[str, Any]:
        return {"sent": self._sent, "lost": len(self._lost), "first_lost": self._lost[:5]}


class _Download(_Activity):
    def __init__(self, to: str, port: int) -> None:
        super().__init__()
        self._connection = socket.create_connection((to, port), 5)
        self._connection.settimeout(0.5)
        self._records = 0
        self._last = time.monotonic()
        self._longest_s = 0.0
        self._error: str | None = None

    def work(self) -> None:
        buffered = b""
        with self._connection as connection:
            while self.going():
                try:
                    data = connection.recv(4096)
                except TimeoutError:
                    continue
                except OSError as error:
                    self._error = repr(error)
                    return
                if not data:
                    self._error = "closed by the other side"
                    return
                now = time.monotonic()
                self._longest_s = max(self._longest_s, now - self._last)
                self._last = now
                buffered += data
                while len(buffered) >= RECORD_BYTES:
                    number = struct.unpack("!Q", buffered[:RECORD_BYTES])[0]
                    if number != self._records:
                        self._error = f"record {number} in place of {self._records}"
                        return
                    self._records += 1
                    buffered = buffered[RECORD_BYTES:]

    def figures(self) -> dict[str, Any]:
        silent_s = max(self._longest_s, time.monotonic() - self._last) if self.going() else self._longest_s
        return {"records": self._records, "longest_stall_s": round(silent_s, 2), "error": self._error}


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            pass


def _echo_datagrams(datagrams: socket.socket) -> None:
    while True:
        try:
            data, sender = datagrams.recvfrom(4096)
            datagrams.sendto(data, sender)
        except OSError:
            pass


def _send_records(connection: socket.socket) -> None:
    number = 0
    with connection:
        try:
            while True:
                connection.sendall(struct.pack("!Q", number))
                number += 1
                time.sleep(_STREAM_INTERVAL_S)
        except OSError:
            pass


def _exchange(connection: socket.socket) -> bool:
    record = os.urandom(RECORD_BYTES)
    connection.sendall(record)
    received = b""
    while record not in received:
        data = connection.recv(4096)
        if not data:
            return False
        received += data
    return True


def _ask(probe: socket.socket, record: bytes, timeout: float) -> bool:
    """Asks three times in the time given: a datagram may be lost in a queue."""
    for _ in range(3):
        deadline = time.monotonic() + timeout / 3
        try:
            probe.send(record)
            while (left := deadline - time.monotonic()) > 0:
                probe.settimeout(left)
                if probe.recv(4096) == record:
                    return True
        except OSError:
            time.sleep(max(0.0, deadline - time.monotonic()))
    return False


def _datagram_socket(to: str, source: str | None) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
    if source:
        made.bind((source, 0))
    return made


def _packet_socket(protocol: int = 0) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    raw.bind((INTERFACE, protocol))
    return raw


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _background(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def main() -> None:
    guest = Guest()
    lock = threading.Lock()

    def obey(line: str) -> None:
        answer = guest.obey(line)
        with lock:
            print(answer, flush=True)

    for line in sys.stdin:
        _background(obey, line)


if __name__ == "__main__":
    main()
