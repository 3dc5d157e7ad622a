"""One line a scenario, on the terminal as they come and in a file."""

import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from driver_level.drivers import Driver
from driver_level.host import Host
from driver_level.scenarios import Scenario
from harness.shell import HarnessError
from harness.world import CheckFailed

_LINES_OF_LOG = 5
_OUTCOMES = ("ok", "FAILED", "differs", "skipped")


class Report:
    """What came of the scenarios with one driver, or of all with each fault."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._started = time.monotonic()
        self._counts = dict.fromkeys(_OUTCOMES, 0)

    def play(self, scenario: Scenario, host: Host, driver: Driver) -> None:
        started = time.monotonic()
        outcome, told = _outcome(scenario, host, driver)
        self._add(outcome, scenario.name, f"{told} ({time.monotonic() - started:.1f} s)")

    def show_fault(self, scenario: Scenario, host: Host, faults: Sequence[Driver]) -> None:
        """Whether one of the faults makes it fail, as one must. The first that does is enough."""
        for driver in faults:
            if driver.has_daemon or not scenario.needs_daemon:
                outcome, told = _outcome(scenario, host, driver)
                if outcome == "FAILED":
                    self._add("ok", scenario.name, f"fails when {driver.name}: {told}")
                    return
        self._add("FAILED", scenario.name, "passes with every fault")

    def note(self, name: str, wrong: Sequence[str]) -> None:
        """A look at logs: what is wrong in them."""
        told = "; ".join(wrong[:_LINES_OF_LOG]) if wrong else "no errors were logged"
        self._add("FAILED" if wrong else "ok", name, told)

    def broke(self, why: str) -> None:
        """The run could not go on."""
        self._add("FAILED", "the run ended early", why)

    def say(self, line: str) -> None:
        self._lines.append(line)
        print(line, flush=True)

    def finish(self) -> int:
        """Writes the file and gives the exit status."""
        counts = self._counts
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        self.say(f"{told}; {time.monotonic() - self._started:.0f} s")
        # CI looks for a line of this form.
        self.say(f"{counts['ok']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped")
        self._path.write_text("\n".join(self._lines) + "\n")
        return 1 if counts["FAILED"] or not counts["ok"] else 0

    def _add(self, outcome: str, name: str, told: str) -> None:
        self._counts[outcome] += 1
        self.say(f"{outcome:8} {name}: {told}")


def _outcome(scenario: Scenario, host: Host, driver: Driver) -> tuple[str, str]:
    if scenario.needs_daemon and not driver.has_daemon:
        return "skipped", "the driver has no daemon"
    try:
        with host.stage(driver) as stage:
            return "ok", scenario.play(stage) or scenario.proves
    except CheckFailed as error:
        known = scenario.differs.get(driver.name)
        return ("differs", f"{known} ({error})") if known else ("FAILED", str(error))
    except HarnessError as error:
        return "FAILED", f"not carried out: {error}"
    # Whatever a driver raises in its caller's face.
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "FAILED", f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
