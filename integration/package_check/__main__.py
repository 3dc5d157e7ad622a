"""Boots a clean Debian 12, installs the package there, and looks whether docs/operations/install.md is true.

python3 -m package_check --package FILE --work DIRECTORY
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from package_check.guests import Guests
from package_check.machine import Machine
from package_check.root import make_root
from package_check.scenario import Scenario
from package_check.shell import Failed


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--package", type=Path, required=True, help="the .deb")
    options.add_argument(
        "--work", type=Path, required=True, help="where the clean system is kept, and a copy of it made"
    )
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, _end)
    chosen.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=chosen.work.absolute()))
    try:
        root = work / "root"
        make_root(chosen.work.absolute(), root)
        shutil.copy(chosen.package, root / "root/sgflow.deb")
        failed, passed = _check(Machine(root))
    finally:
        shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _check(machine: Machine) -> tuple[int, int]:
    guests = None
    passed = 0
    try:
        machine.boot()
        guests = Guests(machine, [80, 81])
        for step in Scenario(machine, guests, "/root/sgflow.deb").steps():
            began = time.monotonic()
            try:
                step()
            except (Failed, OSError, KeyError, ValueError) as wrong:
                print(f"FAILED {step.__name__}: {step.__doc__}\n{wrong}", flush=True)
                # The next step would begin with something else than it is written for.
                return 1, passed
            passed += 1
            print(f"ok     {step.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        return 0, passed
    finally:
        if guests is not None:
            guests.end()
        machine.shut_down()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit("ended")


if __name__ == "__main__":
    sys.exit(main())
