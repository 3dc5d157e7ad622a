"""Figures, as JSON, as tables, and as a picture; and whether what was promised of them holds."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

from benchmark.rig import Cost, Rewritten

PLUG = "all ports are plugged in"
MEMBER = "one member joins on another host"
EMPTY, THEIRS, OURS = "empty", "openvswitch", "sgflow"
# The share of sgflow by that of Neutron's own driver, at most.
_BOUNDS = {MEMBER: 1 / 100, PLUG: 1 / 10}
# The daemon's; what is below belongs to the agent, the two hooks in its table 60 to our driver.
_FIRST_TABLE = 100
_TABLES = {
    "tables of the agent but 60": {*range(71)} - {60},
    "table 60": {60},
    "tables of Neutron's driver": {*range(71, _FIRST_TABLE)},
    "tables of the daemon": {*range(_FIRST_TABLE, 255)},
}
_PROCESSES = ("agent", "programs", "sgflow", "ovs-vswitchd", "ovsdb-server")


@dataclass
class Figures:
    ports: int
    members: int
    rounds: int
    steps: dict[str, dict[str, list[Cost]]] = field(default_factory=dict)
    """By step and driver, in the order in which they were taken."""
    restarts: dict[str, list[Rewritten]] = field(default_factory=dict)
    load: list[float] = field(default_factory=lambda: [os.getloadavg()[0]])
    """Of the machine, before and after."""

    def add(self, step: str, driver: str, cost: Cost) -> None:
        self.steps.setdefault(step, {}).setdefault(driver, []).append(cost)

    def end(self) -> None:
        self.load.append(os.getloadavg()[0])

    def total(self, step: str, driver: str) -> float | None:
        costs = self.steps.get(step, {}).get(driver)
        return median(cost.total for cost in costs) if costs else None

    def share(self, step: str, driver: str) -> float | None:
        """What the driver costs, above what the agent takes with a driver that does nothing."""
        own, empty = self.total(step, driver), self.total(step, EMPTY)
        return None if own is None or empty is None else own - empty

    def ratio(self, step: str) -> float | None:
        ours, theirs = self.share(step, OURS), self.share(step, THEIRS)
        return None if ours is None or theirs is None or theirs <= 0 else ours / theirs

    def worst_ratio(self, step: str) -> float | None:
        """Of the dearest time with sgflow, the noise of the agent's own share included."""
        empty, theirs = self.total(step, EMPTY), self.share(step, THEIRS)
        costs = self.steps.get(step, {}).get(OURS)
        if not costs or empty is None or theirs is None or theirs <= 0:
            return None
        return (max(cost.total for cost in costs) - empty) / theirs


class Bound(NamedTuple):
    text: str
    met: bool
    counted: bool
    """Whether it is a number of flows, which is the same on every machine."""


def bounds(figures: Figures) -> list[Bound]:
    """Those of which there are figures."""
    found = []
    for step, most in _BOUNDS.items():
        ratio, worst = figures.ratio(step), figures.worst_ratio(step)
        if ratio is not None and worst is not None:
            text = f"{step}: {_fraction(ratio)} of the share of Neutron's driver, at most {_fraction(most)}"
            found.append(Bound(f"{text} (the dearest time: {_fraction(worst)})", ratio <= most, False))
    changes = figures.restarts.get(OURS)
    if changes:
        ours = max(sum(_in_our_tables(of.rewritten, of.added, of.removed)) for of in changes)
        sent = max(of.flow_mods or 0 for of in changes)
        text = f"the agent begins anew: {ours} flows of ours rewritten, {sent} flow-mods of the daemon"
        found.append(Bound(f"{text}, none may be", ours == sent == 0, True))
    return found


def _in_our_tables(*counts: dict[int, int]) -> list[int]:
    return [number for count in counts for table, number in count.items() if table >= _FIRST_TABLE]


def as_json(figures: Figures) -> str:
    told: dict[str, Any] = {
        "measured": time.strftime("%Y-%m-%d"),
        "load": figures.load,
        "ports": figures.ports,
        "members": figures.members,
        "rounds": figures.rounds,
        "steps": {
            step: {driver: [_rounded(cost) for cost in costs] for driver, costs in by_driver.items()}
            for step, by_driver in figures.steps.items()
        },
        "restarts": {driver: [asdict(of) for of in changes] for driver, changes in figures.restarts.items()},
        "shares": {
            step: {driver: figures.share(step, driver) for driver in (THEIRS, OURS)}
            | {"ratio": figures.ratio(step), "worst_ratio": figures.worst_ratio(step)}
            for step in figures.steps
        },
        "bounds": [bound._asdict() for bound in bounds(figures)],
    }
    return json.dumps(told) + "\n"


def _rounded(cost: Cost) -> dict[str, Any]:
    cpu = {name: round(seconds, 6) for name, seconds in cost.cpu.items()}
    return {"cpu": cpu, "taken": round(cost.taken, 6), "flows": cost.flows}


def as_markdown(figures: Figures) -> str:
    return "\n".join(
        [
            f"{figures.ports} ports, {figures.members} members, {figures.rounds} rounds; "
            f"load before {figures.load[0]:.2f}, after {figures.load[-1]:.2f}",
            "",
            *_shares(figures),
            "",
            *_parts(figures),
            "",
            *_restarts(figures),
            "",
            *(f"- {bound.text}: {'met' if bound.met else 'NOT MET'}" for bound in bounds(figures)),
        ]
    )


def _shares(figures: Figures) -> list[str]:
    lines = [
        "| step | empty: CPU ms | openvswitch: share ms | sgflow: share ms | sgflow of openvswitch "
        "| wall ms: empty, openvswitch, sgflow |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for step, by_driver in figures.steps.items():
        empty = figures.total(step, EMPTY) or 0.0
        cells = [_with_spread([cost.total for cost in by_driver.get(EMPTY, [])])]
        cells += [
            _with_spread([cost.total - empty for cost in by_driver.get(driver, [])])
            for driver in (THEIRS, OURS)
        ]
        ratio = figures.ratio(step)
        cells.append("" if ratio is None else _fraction(ratio))
        taken = [[cost.taken for cost in by_driver.get(driver, [])] for driver in (EMPTY, THEIRS, OURS)]
        cells.append(", ".join(f"{1000 * median(times):.0f}" if times else "" for times in taken))
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return lines


def _parts(figures: Figures) -> list[str]:
    """By whom the share is taken: medians of each, so that they need not add up."""
    lines = [
        "| step | driver | " + " | ".join(f"{name} ms" for name in _PROCESSES) + " | flows |",
        "|---|---|" + "---:|" * (len(_PROCESSES) + 1),
    ]
    for step, by_driver in figures.steps.items():
        for driver, costs in by_driver.items():
            cells = [f"{1000 * median(cost.cpu[name] for cost in costs):.1f}" for name in _PROCESSES]
            lines.append(
                f"| {step} | {driver} | {' | '.join(cells)} | {median(cost.flows for cost in costs):.0f} |"
            )
    return lines


def _restarts(figures: Figures) -> list[str]:
    """Of the last round."""
    lines = [
        "| the agent begins anew | flows in | kept | rewritten | added | removed |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for driver, rounds in figures.restarts.items():
        changes = rounds[-1]
        counts = (changes.kept, changes.rewritten, changes.added, changes.removed)
        for name, tables in _TABLES.items():
            numbers = [
                sum(count for table, count in by_table.items() if table in tables) for by_table in counts
            ]
            if any(numbers):
                lines.append(f"| {driver} | {name} | {' | '.join(map(str, numbers))} |")
    return lines


def _with_spread(seconds: Sequence[float]) -> str:
    """The median, and from where to where."""
    if not seconds:
        return ""
    return f"{1000 * median(seconds):.1f} ({1000 * min(seconds):.1f} to {1000 * max(seconds):.1f})"


def _fraction(ratio: float) -> str:
    if ratio <= 0:
        return "0"
    return f"1/{1 / ratio:.0f}" if ratio <= 0.5 else f"{ratio:.2f}"


# The picture: a bar a driver and step, on a logarithmic scale, as in the other pictures of docs/benchmarks.
_DECADES = (-4, 2)
_LEFT, _WIDTH, _TOP, _BAR, _GAP = 210.0, 540.0, 64.0, 13.0, 14.0
_SERIES = (
    (OURS, "share of sgflow: driver, daemon, switch", "#1f6f8b"),
    (THEIRS, "share of Neutron's own driver and switch", "#b23a48"),
    (EMPTY, "what the agent takes with any driver", "#8a8a8a"),
)


def as_svg(figures: Figures) -> str:
    height = _TOP + len(figures.steps) * (len(_SERIES) * _BAR + _GAP) + 30
    width = _LEFT + _WIDTH + 70
    title = f"Inside the agent, {figures.ports} ports, {figures.members} members: processor time, seconds"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="18" font-size="14">{title}</text>',
    ]
    for number, (_, name, colour) in enumerate(_SERIES):
        x = 10 + 230 * number
        lines.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{colour}"/>')
        lines.append(f'<text x="{x + 14}" y="39" font-size="9">{name}</text>')
    for decade in range(_DECADES[0], _DECADES[1] + 1):
        x = _place(10.0**decade)
        lines.append(f'<path d="M{x:.1f} {_TOP - 8:.0f}V{height - 24:.0f}" stroke="#ddd"/>')
        lines.append(f'<text x="{x:.1f}" y="{height - 10:.0f}" text-anchor="middle">{10.0**decade:g}</text>')
    y = _TOP
    for step in figures.steps:
        lines.append(f'<text x="10" y="{y + _BAR:.1f}">{step}</text>')
        for driver, _, colour in _SERIES:
            seconds = figures.total(step, driver) if driver == EMPTY else figures.share(step, driver)
            if seconds is not None:
                end = _place(seconds)
                size = f'width="{end - _LEFT:.1f}" height="{_BAR - 2:.0f}"'
                lines.append(f'<rect x="{_LEFT:.0f}" y="{y:.1f}" {size} fill="{colour}"/>')
                lines.append(f'<text x="{end + 4:.1f}" y="{y + _BAR - 3:.1f}">{seconds:.4f}</text>')
            y += _BAR
        y += _GAP
    return "\n".join([*lines, "</svg>\n"])


def _place(seconds: float) -> float:
    """Where a time stands. A share that is lost in the noise may be less than nothing."""
    low, high = _DECADES
    decade = math.log10(seconds) if seconds > 0 else low
    return _LEFT + _WIDTH * min(max((decade - low) / (high - low), 0.0), 1.0)
