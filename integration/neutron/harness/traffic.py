"""What a program has received and sent by TCP, as the kernel counts it for each of its sockets: ss(8)."""

import os
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from harness.shell import HarnessError, run

_PID = re.compile(r"pid=(\d+)")
_COUNT = re.compile(r"\b(bytes_received|bytes_sent):(\d+)")


@dataclass(frozen=True)
class Traffic:
    """Bytes of payload."""

    received: int = 0
    sent: int = 0

    @property
    def total(self) -> int:
        return self.received + self.sent

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.received + other.received, self.sent + other.sent)

    def __str__(self) -> str:
        return f"{self.received:,} B received, {self.sent:,} B sent"


class Meter:
    """What a program, with those it has started, exchanges with servers at some ports from now on."""

    def __init__(self, pid: int | None, ports: Collection[int]) -> None:
        self._pid = pid
        self._ports = set(ports)
        self._before = self._sockets()

    def read(self) -> Traffic:
        """Since the meter was made. A connection that ended has taken its figures with it."""
        now = self._sockets()
        if gone := self._before.keys() - now.keys():
            raise HarnessError(f"connections ended while they were counted: {sorted(gone)}")
        total = sum(now.values(), Traffic())
        before = sum(self._before.values(), Traffic())
        return Traffic(total.received - before.received, total.sent - before.sent)

    def _sockets(self) -> dict[tuple[str, str], Traffic]:
        found = {}
        for line in run("ss", "-HOtinp", "state", "established").splitlines():
            # Without a column of states, since only one is asked for.
            _, _, local, peer, *_ = line.split()
            if int(peer.rpartition(":")[2]) not in self._ports or not self._is_ours(line):
                continue
            counts = {name: int(count) for name, count in _COUNT.findall(line)}
            found[local, peer] = Traffic(counts.get("bytes_received", 0), counts.get("bytes_sent", 0))
        return found

    def _is_ours(self, line: str) -> bool:
        # Each program is started in a session of its own.
        for pid in _PID.findall(line):
            with suppress(ProcessLookupError):
                if os.getsid(int(pid)) == self._pid:
                    return True
        return False
