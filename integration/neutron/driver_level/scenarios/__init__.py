"""The scenarios: each has a bridge of its own, says what it proves, and proves it with packets."""

from collections.abc import Callable
from dataclasses import dataclass, field

from driver_level.host import Stage


@dataclass(frozen=True)
class Scenario:
    """One line of the report."""

    name: str
    proves: str
    play: Callable[[Stage], str | None]
    """Raises when it fails; may give figures worth a line."""
    differs: dict[str, str] = field(default_factory=dict)
    """Drivers for which it is known to fail, and why: told, and not counted as a failure."""
    needs_daemon: bool = False


ALL: list[Scenario] = []


def scenario(
    name: str, proves: str, *, differs: str | None = None, needs_daemon: bool = False
) -> Callable[[Callable[[Stage], str | None]], Callable[[Stage], str | None]]:
    """Adds a function to the list. `differs`: what Neutron's own driver does in its place."""

    def add(play: Callable[[Stage], str | None]) -> Callable[[Stage], str | None]:
        ALL.append(Scenario(name, proves, play, {"openvswitch": differs} if differs else {}, needs_daemon))
        return play

    return add


from driver_level.scenarios import rules, remotes, addresses, frames, changes, life  # noqa: E402, F401, I001
