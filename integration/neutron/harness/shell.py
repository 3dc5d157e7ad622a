"""Commands, and processes that are ended by their pid."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


class HarnessError(Exception):
    """What is under test was not even reached: a program is missing, a service does not come up."""


def run(
    *argv: str,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
    check: bool = True,
    content: Sequence[int] = (0,),
) -> str:
    """Runs a command and gives what it printed; what it complained of is in the error. `content` are the exit
    codes of one that has done what it was to do."""
    done = subprocess.run(
        argv,
        env=env,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode not in content:
        raise HarnessError(
            f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def wait_until(what: str, holds: Callable[[], Any], within_s: float, every_s: float = 0.1) -> Any:
    """Waits until `holds` gives something true, and gives that. Errors of the network count as "not yet"."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if value := holds():
                return value
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise HarnessError(f"{what}: not within {within_s:g} s")
        time.sleep(every_s)


class Process:
    """A program in a session of its own, its output in a file."""

    def __init__(
        self, name: str, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._env = None if env is None else dict(env)
        self._popen = self._start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_again(self) -> None:
        """After it has ended, as it was started first."""
        self._popen = self._start()

    def alive(self) -> bool:
        return self._popen.poll() is None

    def must_be_alive(self) -> bool:
        """For the conditions of `wait_until`: a program that has ended will not come up any more."""
        if not self.alive():
            raise HarnessError(f"{self.name} ended with {self._popen.returncode}: {tail(self.log)}")
        return True

    def kill(self) -> None:
        """Ends it and its children at once, as a crash would."""
        if not self.alive():
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self, within_s: float = 20) -> None:
        """Asks it to end, and ends it hard when it does not."""
        if self.alive():
            self._popen.terminate()
            try:
                self._popen.wait(within_s)
            except subprocess.TimeoutExpired:
                self.kill()


def tail(log: Path, lines: int = 8) -> str:
    """The end of a log, for an error."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"
