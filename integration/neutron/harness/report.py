"""One line a check, on the terminal as they come and in a file."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.checks import Check
from harness.shell import HarnessError
from harness.world import CheckFailed, World

_LINES_OF_LOG = 5


class Report:
    """What came of the checks, and how long all took."""

    def __init__(self, path: Path, logs: Path, driver: str) -> None:
        self._path = path
        self._logs = logs
        self._lines: list[str] = []
        self._started = time.monotonic()
        self._counts = {"ok": 0, "FAILED": 0, "differs": 0, "skipped": 0}
        self._driver = driver
        self._say(f"firewall_driver = {driver}")

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Tells how long a step of the setting up took."""
        started = time.monotonic()
        yield
        self._say(f"{'set up':8} {what} ({time.monotonic() - started:.1f} s)")

    def run(self, check: Check, world: World) -> None:
        if check.needs_daemon and not world.driver.has_daemon:
            self._line("skipped", check, "the driver has no daemon", None)
            return
        started = time.monotonic()
        purges = world.purges
        try:
            told = check.run(world) or check.proves
            if world.purges > purges:
                told += f" [after {world.purges - purges} purge(s) of stale datapath flows]"
            outcome = "ok"
        except CheckFailed as error:
            outcome, told = "FAILED", str(error)
            if known := check.differs.get(self._driver):
                outcome, told = "differs", f"{known} ({error})"
            world.describe_state(self._logs / f"{check.name}.txt")
        except (HarnessError, OSError) as error:
            # An API that does not answer is no reason to leave the other checks out.
            outcome, told = "FAILED", f"not carried out: {error}"
        self._line(outcome, check, told, time.monotonic() - started)

    def note(self, name: str, wrong: Sequence[str]) -> None:
        """A check of a log: what is wrong in it."""
        outcome = "FAILED" if wrong else "ok"
        self._counts[outcome] += 1
        self._say(
            f"{outcome:8} {name}: " + ("; ".join(wrong[:_LINES_OF_LOG]) if wrong else "no errors were logged")
        )

    def broke(self, why: str) -> None:
        """The run could not go on."""
        self._counts["FAILED"] += 1
        self._say(f"{'FAILED':8} the run ended early: {why}")

    def finish(self) -> int:
        """Writes the file and gives the exit status."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self._counts.items())
        self._say(f"{counts}; {time.monotonic() - self._started:.0f} s")
        # CI looks for a line of this form.
        self._say(
            f"{self._counts['ok']} passed, {self._counts['FAILED']} failed, {self._counts['skipped']} skipped"
        )
        self._path.write_text("\n".join(self._lines) + "\n")
        return 1 if self._counts["FAILED"] or not self._counts["ok"] else 0

    def _line(self, outcome: str, check: Check, told: str, seconds: float | None) -> None:
        self._counts[outcome] += 1
        took = "" if seconds is None else f" ({seconds:.1f} s)"
        self._say(f"{outcome:8} {check.name}: {told}{took}")

    def _say(self, line: str) -> None:
        self._lines.append(line)
        print(line, flush=True)
