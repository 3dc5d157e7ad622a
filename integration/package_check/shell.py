"""Commands."""

import subprocess
import time
from collections.abc import Callable
from typing import Any


class Failed(Exception):
    """Something is not as it should be, or could not even be looked at."""


def run(*argv: str, timeout_s: float = 120, check: bool = True) -> str:
    """Runs a command and gives what it printed, both ways."""
    try:
        return _run(argv, timeout_s, check)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(argv)}: not done within {timeout_s:g} s") from late


def _run(argv: tuple[str, ...], timeout_s: float, check: bool) -> str:
    done = subprocess.run(
        argv,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def wait_until(what: str, holds: Callable[[], Any], within_s: float = 60) -> Any:
    """Waits until `holds` gives something true, and gives that."""
    deadline = time.monotonic() + within_s
    while True:
        if value := holds():
            return value
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within_s:g} s")
        time.sleep(0.1)
