"""Processor time of processes and of all that they ran, read from outside."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Used(NamedTuple):
    """Seconds, user and system."""

    own: float
    """Of the process, to the nanosecond, threads that have ended included."""
    programs: float
    """Of its descendants: those that have ended are counted in ticks of 10 ms."""

    def since(self, before: Used) -> Used:
        return Used(self.own - before.own, self.programs - before.programs)


def used(pid: int) -> Used:
    return Used(_clock(pid), _programs(pid))


def _programs(pid: int) -> float:
    # Children first: one that ends meanwhile is counted when its parent has waited for it.
    living = sum(_clock(child) + _programs(child) for child in _children(pid))
    return living + _ended_children(pid)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += map(int, task.read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return children


def _clock(pid: int) -> float:
    """clock_getcpuclockid(3), which Python lacks: the complement of the pid, and 2 for time scheduled."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def _ended_children(pid: int) -> float:
    """Fields 16 and 17 of proc(5) `stat`. The second is a name in parentheses, and may hold anything."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[13]) + int(fields[14])) / _TICKS
