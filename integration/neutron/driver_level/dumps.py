"""What Neutron's own driver writes, as dumps of its flows, for whoever has to read such: crates/explain/tests/dumps.

    python -m driver_level --driver openvswitch --dumps DIRECTORY
"""

import json
from pathlib import Path

from driver_level.groups import both, out
from driver_level.host import OTHER_HOST, Stage
from harness.shell import run
from tests.calls import rule

# What `ovs-ofctl dump-flows` is asked for, and of which tables, by the name of the file.
_FORMS = {
    "names": (("-O", "OpenFlow14", "--names"), ("",)),
    "no-stats": (("-O", "OpenFlow13", "--no-stats", "--no-names"), ("table=60", "table=72", "table=73")),
    "openflow10": (("--no-names",), ("table=0",)),
}
# Lines of what ovs-vswitchd itself says, which has no names and no cookies.
_LINES = 24


def take(stage: Stage, directory: Path) -> None:
    """A host with each kind of rule and remote, and its dumps in each form."""
    _set_up(stage)
    directory.mkdir(parents=True, exist_ok=True)
    for name, (options, tables) in _FORMS.items():
        dumps = [
            run("ovs-ofctl", *options, "dump-flows", stage.name, table, env=stage.switch.environment)
            for table in tables
        ]
        (directory / f"driver-{name}.txt").write_text("".join(f"{dump.rstrip()}\n" for dump in dumps))
    lines = run("ovs-appctl", "bridge/dump-flows", stage.name, env=stage.switch.environment).splitlines()
    some = [*lines[:_LINES], *lines[-_LINES:]]
    (directory / "driver-appctl.txt").write_text("".join(f"{line}\n" for line in some))
    (directory / "driver-policy.json").write_text(_policy(stage))


def _set_up(stage: Stage) -> None:
    """a: Neutron's default group. b: remote groups, one of them empty, an address group, ranges and ICMP. c: in two of
    the groups, with address pairs. d: without port security. r: a member on another host."""
    stage.group("default", *out(both("ingress", group="default")))
    stage.group("web", *out(both("ingress", "tcp", 80), both("ingress", "tcp", (8000, 8010), group="default")))
    ping = [rule("ingress", "icmp", (8, 0), cidr="10.0.0.0/24"), rule("ingress", "ipv6-icmp", (128, 128), version="IPv6")]
    stage.group(
        "database",
        *both("egress", "tcp", 443, group="web"),
        *both("egress", "udp", 53),
        *both("ingress", "tcp", 5432, group="web"),
        *both("ingress", "udp", (5000, 5003), group="web"),
        *both("ingress", "icmp", group="default"),
        *both("ingress", "tcp", 22, address_group="offices"),
        *both("ingress", "tcp", 1, group="nobody"),
        *both("ingress", "sctp", 9),
        *ping,
        rule("ingress", "gre", cidr="192.0.2.0/24"),
    )
    stage.cloud.address_groups["offices"] = ["198.51.100.0/24", "2001:db8:1::/48"]
    stage.describe("c", "web", "default", pairs=[("10.0.0.100", None), ("fd00::100", "fa:16:3e:00:00:64")])
    stage.describe("d", security=False)
    stage.describe(OTHER_HOST, "web")
    stage.up(a="default", b="database", c=("web", "default"), d=())
    stage.agent.members_changed("web")
    # So that there is something to count.
    stage.connect(passes=stage.probes("a", "c"), refused=stage.probes("a", "b", ("tcp",)))


def _policy(stage: Stage) -> str:
    """The same host as a policy document of sgflow's."""
    prefix = {"ingress": "source_ip_prefix", "egress": "dest_ip_prefix"}
    groups = []
    for group, rules in stage.cloud.groups.items():
        told = []
        for number, each in enumerate(rules, 1):
            kept = {key: value for key, value in each.items() if key not in prefix.values()}
            if address := each.get(prefix[each["direction"]]):
                kept["remote_ip_prefix"] = address
            if address_group := kept.pop("remote_address_group_id", None):
                kept["remote_address_group_id"] = address_group
            told.append({"id": f"{group}-{number}", **kept})
        groups.append({"id": group, "name": group, "security_group_rules": told})
    ports = []
    for known in stage.cloud.ports.values():
        pairs = [
            {"ip_address": pair["ip_address"], "mac_address": pair["mac_address"]}
            for pair in known["allowed_address_pairs"]
        ]
        ports.append(
            {
                "id": known["id"],
                "network_id": known["network_id"],
                "mac_address": known["mac_address"],
                "fixed_ips": [{"ip_address": address} for address in known["fixed_ips"]],
                "allowed_address_pairs": pairs,
                "security_groups": known["security_groups"],
                "port_security_enabled": known["port_security_enabled"],
            }
        )
    address_groups = [
        {"id": name, "name": name, "addresses": addresses} for name, addresses in stage.cloud.address_groups.items()
    ]
    document = {"security_groups": groups, "address_groups": address_groups, "ports": ports}
    return json.dumps(document, indent=1) + "\n"
