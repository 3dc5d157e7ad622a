"""What runs inside a namespace that plays a machine: the orders of `harness.guest`, and ears for marked frames."""

import os
import re
import socket
import threading
import time
from typing import Any

from harness import guest
from harness.frames import new_marker

_PREFIX = b"sgflow"
_MARKER = re.compile(_PREFIX + b".{%d}" % (len(new_marker()) - len(_PREFIX)), re.DOTALL)
_ETH_P_ALL = 3
_PACKET_OUTGOING = 4
_TAG_LENGTH = 4


class Guest(guest.Guest):
    """Every marked frame that comes in is noted, from the start, so that a question has nothing to set up."""

    def __init__(self) -> None:
        super().__init__()
        self._orders |= {
            "heard": self.heard,
            "frames": self.frames,
            "large_udp": self.large_udp,
            "say": self.say,
        }
        self._heard: set[bytes] = set()
        self._news = threading.Condition()
        self._ears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._ears.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._ears.bind((guest.INTERFACE, _ETH_P_ALL))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            frame, source = self._ears.recvfrom(65536)
            if source[2] == _PACKET_OUTGOING:
                continue
            found = _MARKER.findall(frame)
            if found:
                with self._news:
                    self._heard.update(found)
                    self._news.notify_all()

    def heard(self, markers: list[str], until: list[str], timeout: float, grace: float) -> list[str]:
        """Which of the markers came in, once all of `until` have, or when the time is over."""
        awaited = {bytes.fromhex(marker) for marker in until}
        with self._news:
            self._news.wait_for(lambda: awaited <= self._heard, timeout)
        time.sleep(grace)
        with self._news:
            return [marker for marker in markers if bytes.fromhex(marker) in self._heard]

    def frames(self, frames: list[str], interval: float = 0) -> bool:
        """Sends them once, one behind the other."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((guest.INTERFACE, 0))
            for frame in frames:
                raw.send(bytes.fromhex(frame))
                if interval:
                    time.sleep(interval)
        return True

    def large_udp(self, to: str, port: int, size: int, timeout: float) -> bool:
        """A datagram of several fragments, echoed."""
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((to, port))
            probe.settimeout(timeout)
            record = os.urandom(size)
            probe.send(record)
            try:
                return probe.recv(65536) == record
            except OSError:
                return False

    def say(self, name: str, marker: str) -> bool:
        """On a connection that is kept, whether or not it arrives."""
        kept: Any = self._kept[name]
        kept.sendall(bytes.fromhex(marker))
        return True


if __name__ == "__main__":
    guest.main(Guest)
