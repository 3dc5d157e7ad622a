"""The checks: each says what it proves, and proves it with packets."""

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.world import World


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    proves: str
    run: Callable[[World], str | None]
    """Raises when it fails; may give figures worth a line."""
    differs: dict[str, str] = field(default_factory=dict)
    """Drivers for which it is known to fail, and why: told, and not counted as a failure."""
    needs_daemon: bool = False


ALL: list[Check] = []


def check(
    name: str, proves: str, *, differs: dict[str, str] | None = None, needs_daemon: bool = False
) -> Callable[[Callable[[World], str | None]], Callable[[World], str | None]]:
    """Adds a function to the checks, which are run in the order in which they are written down."""

    def add(run: Callable[[World], str | None]) -> Callable[[World], str | None]:
        ALL.append(Check(name, proves, run, differs or {}, needs_daemon))
        return run

    return add


# Disturbances come last: what they leave behind would be blamed on others.
from harness.checks import groups, ports, looked, life, followed, published, traffic  # noqa: E402, F401, I001
