"""Network namespaces. All that runs here runs in some of them, so that nothing listens on the machine
itself, and so that everything can be found again and ended, also after a crash."""

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from harness.shell import HarnessError, run

_NAMED = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


def create(name: str) -> None:
    """Makes a namespace with its loopback up."""
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")


def enter(name: str) -> None:
    """Moves this process there; threads and children follow, so call it before there are any. `ip netns
    exec` would also hide later namespaces from the outside, by a mount namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (_NAMED / name).open() as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise HarnessError(f"network namespace {name}: {os.strerror(ctypes.get_errno())}")


def remove_all(prefix: str) -> None:
    """Ends every process in the namespaces `prefix` and `prefix-…`, but this one, and removes them."""
    names = [name for name in _names() if name == prefix or name.startswith(f"{prefix}-")]
    for name in names:
        _end_processes(name)
    for name in names:
        run("ip", "netns", "del", name, check=False)


def _names() -> list[str]:
    return sorted(path.name for path in _NAMED.iterdir()) if _NAMED.is_dir() else []


def _end_processes(name: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pids = _processes(name)
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _reap()
        time.sleep(0.05)


def _processes(name: str) -> list[int]:
    """Those in a namespace, but this one. (`ip netns pids` run from there would name itself.)"""
    namespace = (_NAMED / name).stat().st_ino
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        # It may have ended in between; a zombie has no namespace.
        with suppress(OSError):
            if (path / "ns/net").stat().st_ino == namespace and int(path.name) != os.getpid():
                found.append(int(path.name))
    return found


def _reap() -> None:
    """Children of ours that were ended by pid would stay as zombies until this process ends."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
