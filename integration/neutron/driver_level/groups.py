"""Rules of both families at once."""

from typing import Any

from tests.calls import allow_out, rule

Rules = list[dict[str, Any]]
_ICMP = {"IPv4": "icmp", "IPv6": "ipv6-icmp"}


def both(
    direction: str, protocol: str | None = None, ports: tuple[int, int] | int | None = None, **more: Any
) -> Rules:
    """One rule a family; `icmp` is each family's own."""
    return [
        rule(direction, _ICMP[version] if protocol == "icmp" else protocol, ports, version=version, **more)
        for version in _ICMP
    ]


def out(*rules: Rules) -> Rules:
    """With what Neutron gives each new group: everything may be sent."""
    return [*allow_out(), *(each for several in rules for each in several)]


def everything() -> Rules:
    return out(both("ingress"))
