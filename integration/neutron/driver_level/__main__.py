"""Plays the scenarios with a driver, or shows by faults that each of them can fail.

    python -m driver_level [--driver sgflow|openvswitch] [--only NAME …] [--faults] [--list] [--dumps DIRECTORY]

Runs in an environment with Neutron, as root.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from driver_level.drivers import DRIVERS, FAULTS, errors
from harness import netns
from harness.alone import alone, end_on_signals
from harness.shell import HarnessError, run

_REPOSITORY = Path(__file__).resolve().parents[3]


class TimeIsUp(BaseException):
    """Not of a scenario, which would go on to the next."""


def main() -> int:
    options = _options()
    if os.geteuid() != 0:
        print("network namespaces take root", file=sys.stderr)
        return 2
    end_on_signals()
    signal.signal(signal.SIGALRM, _late)
    cache = options.target / "neutron"
    logs = cache / "driver-level"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    with alone(options.prefix):
        return _run(options, cache, logs)


def _options() -> argparse.Namespace:
    target = Path(os.environ.get("CARGO_TARGET_DIR", _REPOSITORY / "target"))
    parser = argparse.ArgumentParser(
        prog="driver_level", description="Calls a firewall driver as Neutron's agent does."
    )
    parser.add_argument("--driver", choices=sorted(DRIVERS), default="sgflow")
    parser.add_argument(
        "--faults", action="store_true", help="play all with each fault; every scenario must fail with one"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="play these scenarios alone")
    parser.add_argument("--list", action="store_true", help="print the scenarios and what each proves")
    parser.add_argument(
        "--dumps", type=Path, metavar="DIRECTORY", help="play nothing: save dumps of a host there (dumps.py)"
    )
    parser.add_argument("--prefix", default="snl", help="of the network namespaces")
    parser.add_argument("--target", type=Path, default=target, help="where the build is, and the report goes")
    parser.add_argument("--program", type=Path, help="sgflow; without this, the debug build")
    parser.add_argument("--limit", type=int, default=240, help="seconds that a list of scenarios may take")
    return parser.parse_args()


def _late(_number: int, _frame: FrameType | None) -> None:
    raise TimeIsUp("the time for all scenarios is over")


def _run(options: argparse.Namespace, cache: Path, logs: Path) -> int:
    # Short, for the names of Unix sockets may have 107 bytes at most.
    rundir = Path(tempfile.mkdtemp(prefix=f"{options.prefix}-"))
    machines = contextlib.ExitStack()
    try:
        # Before there are threads, which would stay outside.
        netns.create(options.prefix)
        netns.enter(options.prefix)
        # Else the switch's side of every pair talks IPv6 to its machine.
        run("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
        # Neutron runs ovs-ofctl itself now and then.
        os.environ |= {f"OVS_{name}DIR": str(rundir / "openvswitch") for name in ("RUN", "DB", "LOG")}
        return _play(options, cache, rundir, logs, machines)
    finally:
        signal.alarm(0)
        machines.close()
        netns.remove_all(options.prefix)
        shutil.rmtree(rundir, ignore_errors=True)


def _play(
    options: argparse.Namespace, cache: Path, rundir: Path, logs: Path, machines: contextlib.ExitStack
) -> int:
    # Neutron's modules start threads.
    from driver_level import controller, dumps
    from driver_level.host import Host
    from driver_level.report import Report
    from driver_level.scenarios import ALL

    if unknown := set(options.only) - {scenario.name for scenario in ALL}:
        raise SystemExit(f"no such scenario: {', '.join(sorted(unknown))}; --list names them")
    chosen = [scenario for scenario in ALL if not options.only or scenario.name in options.only]
    if options.list:
        for scenario in chosen:
            print(f"{scenario.name:32} {scenario.proves}")
        return 0
    database, socket = f"unix:{rundir}/openvswitch/db.sock", str(rundir / "sgflow.sock")
    controller.configure(database, socket, str(logs / "neutron.log"))
    program = options.program or options.target / "debug/sgflow"
    host = Host(options.prefix, rundir, logs, program, controller.start())
    machines.callback(host.stop)
    kind = "-faults" if options.faults else "" if options.driver == "sgflow" else f"-{options.driver}"
    report = Report(cache / f"driver-level{kind}.txt")
    report.say("faults: " + ", ".join(FAULTS) if options.faults else f"firewall_driver = {options.driver}")
    signal.alarm(options.limit * (len(FAULTS) if options.faults else 1))
    try:
        host.start()
        if options.dumps:
            with host.stage(DRIVERS[options.driver]) as stage:
                dumps.take(stage, options.dumps)
            return 0
        for scenario in chosen:
            if options.faults:
                report.show_fault(scenario, host, [DRIVERS[name] for name in FAULTS])
            else:
                report.play(scenario, host, DRIVERS[options.driver])
        if DRIVERS[options.driver].has_daemon and not options.faults:
            report.note("daemon-log", [line for log in host.daemon_logs for line in errors(log)])
    except (HarnessError, TimeIsUp) as error:
        report.broke(str(error))
    return report.finish()


if __name__ == "__main__":
    try:
        status: object = main()
    except SystemExit as end:
        status = end.code
    if isinstance(status, str):
        print(status, file=sys.stderr)
    sys.stdout.flush()
    # The threads of the controller end with the process, and only so.
    os._exit(status if isinstance(status, int) else 1)
