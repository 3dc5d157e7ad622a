"""How a program that makes namespaces keeps out of others' way, and ends."""

import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from harness import netns

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def end_on_signals() -> None:
    """As by an exception, so that what is to be cleaned up is."""
    for number in _SIGNALS:
        signal.signal(number, _interrupted)


def _interrupted(number: int, _frame: FrameType | None) -> None:
    # A second one must not stop the clean-up.
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


@contextmanager
def alone(prefix: str) -> Iterator[None]:
    """One run a prefix at a time; what a killed one has left behind is ended before and after."""
    with Path(f"/run/lock/sgflow-neutron-{prefix}").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another run with the prefix {prefix} is going on") from None
        netns.remove_all(prefix)
        try:
            yield
        finally:
            netns.remove_all(prefix)
