"""Sets up a real Neutron with a firewall driver, runs the checks, and ends everything again.

python3 -m harness [--driver sgflow|openvswitch] [--only NAME …] [--keep]
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness import netns
from harness.agent import PHYSICAL_BRIDGES, Agent
from harness.alone import alone, end_on_signals
from harness.api import Api
from harness.beside import Beside
from harness.checks import ALL, Check
from harness.drivers import Driver, Openvswitch, Sgflow
from harness.install import install
from harness.report import Report
from harness.services import Services
from harness.shell import HarnessError, run
from harness.switch import Switch
from harness.world import World, logged_errors

_REPOSITORY = Path(__file__).resolve().parents[3]


def main() -> int:
    options = _options()
    checks = _chosen(options.only)
    if options.list:
        for check in checks:
            print(f"{check.name:40} {check.proves}")
        return 0
    if os.geteuid() != 0:
        print("network namespaces take root", file=sys.stderr)
        return 2
    end_on_signals()
    signal.signal(signal.SIGALRM, _late)
    cache = options.target / "neutron"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(options.prefix):
        venv = install(_REPOSITORY, cache)
        if not options.keep:
            signal.alarm(options.limit)
        return _run(options, checks, cache, venv)


def _options() -> argparse.Namespace:
    target = Path(os.environ.get("CARGO_TARGET_DIR", _REPOSITORY / "target"))
    parser = argparse.ArgumentParser(
        prog="harness", description="Checks a firewall driver inside a real Neutron."
    )
    parser.add_argument("--driver", choices=("sgflow", "openvswitch"), default="sgflow")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="run these checks alone")
    parser.add_argument("--list", action="store_true", help="print the checks and what each proves")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--prefix", default="snt", help="of the network namespaces")
    parser.add_argument("--target", type=Path, default=target, help="where the build and the caches are")
    parser.add_argument("--release", action="store_true", help="use the release build of sgflow")
    parser.add_argument("--ports", type=int, default=100, help="how many traffic-of-new-ports creates")
    parser.add_argument("--limit", type=int, default=1200, help="seconds that all may take, installing apart")
    return parser.parse_args()


def _chosen(names: Sequence[str]) -> list[Check]:
    known = {check.name for check in ALL}
    if unknown := set(names) - known:
        raise SystemExit(f"no such check: {', '.join(sorted(unknown))}; --list names them")
    return [check for check in ALL if not names or check.name in names]


def _late(_number: int, _frame: FrameType | None) -> None:
    raise HarnessError("the time for all checks is over")


def _run(options: argparse.Namespace, checks: list[Check], cache: Path, venv: Path) -> int:
    logs = cache / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    # Short, for the names of Unix sockets may have 107 bytes at most.
    rundir = Path(tempfile.mkdtemp(prefix=f"{options.prefix}-"))
    report = Report(cache / "report.txt", logs, options.driver)
    world: World | None = None
    try:
        world = _set_up(options, venv, cache, rundir, logs, report)
        for check in checks:
            report.run(check, world)
        _judge_logs(world.driver, report)
        if options.keep:
            _look_around(options.prefix, rundir)
    except HarnessError as error:
        report.broke(str(error))
    finally:
        signal.alarm(0)
        if world is not None:
            for machine in world.machines.values():
                machine.end()
        netns.remove_all(options.prefix)
        shutil.rmtree(rundir, ignore_errors=True)
    return report.finish()


def _set_up(
    options: argparse.Namespace, venv: Path, cache: Path, rundir: Path, logs: Path, report: Report
) -> World:
    netns.create(options.prefix)
    netns.enter(options.prefix)
    # Else the switch's side of every pair talks IPv6 to its machine.
    run("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
    switch = Switch(rundir, logs)
    services = Services(venv, cache, rundir, logs)
    beside = Beside(_program(options), switch, rundir, logs)
    driver = _driver(options, switch, rundir, logs)
    with report.timed("OVS, RabbitMQ, MariaDB, neutron-server"):
        switch.start()
        for bridge in PHYSICAL_BRIDGES.values():
            switch.vsctl("add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev")
        services.start()
        api = Api()
        api.wait()
    agent = Agent(venv, services, switch, logs)
    with report.timed("agent, networks, machines"):
        driver.start()
        agent.start(driver)
        world = World(api, switch, agent, driver, beside, options.prefix)
        world.new_ports = options.ports
        agent.wait_for_iteration()
        world.describe()
        world.start_machines()
        world.plug_all()
    return world


def _driver(options: argparse.Namespace, switch: Switch, rundir: Path, logs: Path) -> Driver:
    if options.driver == "openvswitch":
        return Openvswitch()
    return Sgflow(_program(options), switch, rundir, logs)


def _program(options: argparse.Namespace) -> Path:
    return options.target / ("release" if options.release else "debug") / "sgflow"


def _judge_logs(driver: Driver, report: Report) -> None:
    """An error that the daemon logged is a failure, whatever the packets did."""
    log = driver.log()
    if log is not None:
        report.note("daemon-log", logged_errors(log, "ERROR", "panicked"))


def _look_around(prefix: str, rundir: Path) -> None:
    print(
        f"left running in the network namespace {prefix}, machines in {prefix}-<name>, files in {rundir}; "
        "Ctrl-C ends it"
    )
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())
