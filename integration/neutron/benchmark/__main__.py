"""Measures firewall drivers of Neutron one after the other, round by round, under the agent's own code.

python3 -m benchmark --venv DIRECTORY --program target/release/sgflow [--quick] [--json FILE] [--plot FILE]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import netns
from harness.alone import alone, end_on_signals
from harness.shell import HarnessError

from benchmark import names, report
from benchmark.rig import DRIVERS, Cost, Rewritten, Rig

_REPOSITORY = Path(__file__).resolve().parents[3]
_IDLE_S = 10
# Of ports that come to the group on another host, and of rules that come to it: no others have these numbers.
_FIRST_GUEST = 60000
_FIRST_RULE = 8000


def main() -> int:
    options = _options()
    if os.geteuid() != 0:
        print("network namespaces take root", file=sys.stderr)
        return 2
    end_on_signals()
    figures = report.Figures(options.ports, options.members, options.rounds)
    try:
        with alone(options.prefix):
            _measure(options, figures)
    except HarnessError as error:
        print(f"not carried out: {error}", file=sys.stderr)
        return 2
    print(report.as_markdown(figures))
    if options.json:
        options.json.write_text(report.as_json(figures))
    if options.plot:
        options.plot.write_text(report.as_svg(figures))
    # A few ports for a short time say nothing of cost.
    bounds = [bound for bound in report.bounds(figures) if bound.counted or not options.quick]
    return 0 if all(bound.met for bound in bounds) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--venv", type=Path, required=True, help="a virtual environment with Neutron and the sgflow driver"
    )
    parser.add_argument("--program", type=Path, required=True, help="sgflow, a release build")
    parser.add_argument("--ports", type=int, default=100, help="that are plugged in")
    parser.add_argument("--members", type=int, default=500, help="of the group, these ports included")
    parser.add_argument("--rounds", type=int, default=3, help="each has every driver once, on a new switch")
    parser.add_argument("--times", type=int, default=5, help="that a small step is done in a round")
    parser.add_argument("--drivers", nargs="+", default=list(DRIVERS), choices=DRIVERS)
    parser.add_argument(
        "--quick", action="store_true", help="10 ports, 20 members, once: does all of it still work?"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all figures go")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where the picture goes")
    parser.add_argument("--prefix", default="snb", help="of the network namespace")
    parser.add_argument("--logs", type=Path, default=_REPOSITORY / "target/neutron/benchmark-logs")
    options = parser.parse_args()
    if options.quick:
        options.ports, options.members, options.rounds, options.times = 10, 20, 1, 1
    if options.ports + options.times > options.members:
        parser.error("more members than ports, please: some are plugged in one by one")
    return options


def _measure(options: argparse.Namespace, figures: report.Figures) -> None:
    shutil.rmtree(options.logs, ignore_errors=True)
    options.logs.mkdir(parents=True)
    netns.create(options.prefix)
    netns.enter(options.prefix)
    for number in range(options.rounds):
        # Who comes first is another one each time.
        turn = number % len(options.drivers)
        for driver in options.drivers[turn:] + options.drivers[:turn]:
            print(f"round {number + 1}: {driver}", file=sys.stderr, flush=True)
            with Rig(driver, options.members, options.program, options.venv, options.logs) as rig:
                # A step that is small with the others takes a quarter of a minute with Neutron's own driver.
                times = 1 if driver == report.THEIRS else options.times
                for step, cost in _steps(rig, options.ports, times, figures.restarts):
                    figures.add(step, driver, cost)
                    print(f"  {step}: {cost.total:.3f} s, {cost.flows} flows", file=sys.stderr, flush=True)
    figures.end()


def _steps(
    rig: Rig, ports: int, times: int, restarts: dict[str, list[Rewritten]]
) -> Iterator[tuple[str, Cost]]:
    local = list(range(ports))
    yield "the agent begins, nothing plugged in", rig.measure(lambda: rig.order("begin"))
    yield report.PLUG, rig.measure(lambda: _plug(rig, local))
    yield "they are active: each told of again", rig.measure(lambda: rig.order("activate", ports=local))
    for guest in range(_FIRST_GUEST, _FIRST_GUEST + times):
        yield report.MEMBER, rig.measure(lambda guest=guest: rig.order("join", port=guest))
        yield "one member leaves", rig.measure(lambda guest=guest: rig.order("leave", port=guest))
    for rule in range(_FIRST_RULE, _FIRST_RULE + times):
        yield "one rule more", rig.measure(lambda rule=rule: rig.order("add_rule", number=rule))
        yield "one rule less", rig.measure(lambda rule=rule: rig.order("remove_rule", number=rule))
    rig.kill_agent()
    rig.start_agent()
    rig.wait_for_switch()
    cost, changes = rig.flows_of(lambda: _begin_anew(rig, local))
    restarts.setdefault(rig.driver, []).append(changes)
    yield "the agent begins anew", cost
    for number in range(ports, ports + times):
        yield "one port is plugged in", rig.measure(lambda number=number: _plug(rig, [number]))
    yield f"{_IDLE_S} s of nothing", rig.idle(_IDLE_S)


def _plug(rig: Rig, ports: list[int]) -> None:
    rig.add_interfaces(
        (names.interface(port), names.port_id(port), names.mac_address(port)) for port in ports
    )
    rig.order("plug", ports=ports)


def _begin_anew(rig: Rig, ports: list[int]) -> None:
    """Its first round finds every port, its second prepares each once more and ends with the clean-up."""
    rig.order("begin")
    rig.order("plug", ports=ports)
    rig.order("plug", ports=ports)
    rig.order("clean")


if __name__ == "__main__":
    sys.exit(main())
