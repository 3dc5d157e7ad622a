"""One network, one security group and its ports, told as neutron-server tells them: as versioned objects.

The agent's cache asks here what it would ask the server; what the server would push is recorded in the cache.
"""

from __future__ import annotations

from typing import Any

from neutron.api.rpc.callbacks import resources

from benchmark import names

NETWORK = "11111111-0000-4000-8000-000000000001"
GROUP = "22222222-0000-4000-8000-000000000001"
VLAN = 1
SEGMENT = 6038

Primitive = dict[str, Any]


def _primitive(name: str, version: str, /, **data: Any) -> Primitive:
    return {
        "versioned_object.name": name,
        "versioned_object.namespace": "versionedobjects",
        "versioned_object.version": version,
        "versioned_object.data": data,
    }


def rule(number: int, direction: str, ethertype: str, **more: Any) -> Primitive:
    return _primitive(
        "SecurityGroupRule",
        "1.3",
        id=f"44444444-0000-4000-8000-{number:012x}",
        project_id="p1",
        security_group_id=GROUP,
        direction=direction,
        ethertype=ethertype,
        normalized_cidr=None,
        belongs_to_default_sg=True,
        revision_number=0,
        **more,
    )


def port(number: int, *, status: str = "DOWN", revision: int = 3) -> Primitive:
    """A port with one IPv4 and one IPv6 address, bound to some host, without the parts that are empty."""
    identity = names.port_id(number)
    segment = _primitive(
        "NetworkSegment",
        "1.0",
        id="55555555-0000-4000-8000-000000000001",
        network_id=NETWORK,
        network_type="vxlan",
        segmentation_id=SEGMENT,
        is_dynamic=False,
        segment_index=0,
        hosts=[],
        revision_number=0,
    )
    binding = {"port_id": identity, "host": "compute-1"}
    addresses = (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", f"fd00::{number + 1:x}")
    return _primitive(
        "Port",
        "1.11",
        id=identity,
        project_id="p1",
        name="",
        network_id=NETWORK,
        mac_address=names.mac_address(number),
        admin_state_up=True,
        device_id=f"vm-{number}",
        device_owner="compute:nova",
        status=status,
        allowed_address_pairs=[],
        bindings=[
            _primitive(
                "PortBinding",
                "1.0",
                **binding,
                profile="{}",
                vif_type="ovs",
                vif_details='{"connectivity": "l2", "port_filter": true, "ovs_hybrid_plug": false}',
                vnic_type="normal",
                status="ACTIVE",
            )
        ],
        dhcp_options=[],
        distributed_bindings=[],
        fixed_ips=[
            _primitive(
                "IPAllocation",
                "1.0",
                port_id=identity,
                subnet_id=f"66666666-0000-4000-8000-00000000000{family}",
                network_id=NETWORK,
                ip_address=address,
            )
            for family, address in zip((4, 6), addresses, strict=True)
        ],
        security=_primitive("PortSecurity", "1.0", id=identity, port_security_enabled=True),
        security_group_ids=[GROUP],
        binding_levels=[
            _primitive(
                "PortBindingLevel",
                "1.1",
                **binding,
                level=0,
                driver="openvswitch",
                segment=segment,
                segment_id="55555555-0000-4000-8000-000000000001",
            )
        ],
        revision_number=revision,
        description="",
    )


class Server:
    """What the agent's cache asks. The group is the one that Neutron makes for each project: out to anywhere,
    in from itself."""

    def __init__(self, members: int) -> None:
        rules = [rule(number, "egress", f"IPv{family}") for number, family in enumerate((4, 6))]
        rules += [
            rule(number, "ingress", f"IPv{family}", remote_group_id=GROUP)
            for number, family in enumerate((4, 6), 2)
        ]
        group = _primitive(
            "SecurityGroup",
            "1.6",
            id=GROUP,
            name="default",
            project_id="p1",
            shared=False,
            stateful=True,
            is_default=True,
            rules=rules,
            revision_number=4,
        )
        self._held = {
            resources.PORT: [port(number) for number in range(members)],
            resources.SECURITYGROUP: [group],
            resources.SECURITYGROUPRULE: rules,
        }

    def bulk_pull(self, _context, rtype: str, filter_kwargs: dict[str, tuple[str, ...]]) -> list[Any]:
        found = [
            primitive
            for primitive in self._held.get(rtype, [])
            if all(
                _has(primitive["versioned_object.data"][key], values) for key, values in filter_kwargs.items()
            )
        ]
        return [as_object(primitive) for primitive in found]


def _has(value: Any, wanted: tuple[str, ...]) -> bool:
    return any(each in wanted for each in (value if isinstance(value, list) else [value]))


def as_object(primitive: Primitive) -> Any:
    """As the agent has it from the wire."""
    return resources.get_resource_cls(primitive["versioned_object.name"]).clean_obj_from_primitive(primitive)
