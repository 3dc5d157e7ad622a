"""VMs on a bridge that Neutron's agent has nothing to do with, and changes that have to reach them."""

from harness.world import OPEN_PORT, OTHER_HOST, World


class Cloud:
    """VM u in a group that lets TCP in from the group of v; w is in neither. Their names are `names`."""

    def __init__(self, world: World, bridge: str, names: tuple[str, str, str], host: str = OTHER_HOST) -> None:
        self.world = world
        self.friends, self.others = world.group("friends"), world.group("others")
        self.group = world.group("followed")
        world.allow(self.group, "tcp", OPEN_PORT, remote_group_id=self.friends)
        groups = ([self.group], [self.friends], [self.others])
        world.plug_on(bridge, dict(zip(names, groups, strict=True)), host)
        self.u, self.v, self.w = (world[name] for name in names)

    def must_hold(self, within_s: float = 30) -> None:
        """What the group says, and no more."""
        world, u, v, w = self.world, self.u, self.v, self.w
        refused = world.probes(w, u, ("tcp", "ping"), OPEN_PORT) + world.probes(v, u, ("tcp", "udp"), 443)
        refused += world.probes(u, v)
        world.settle(passes=world.probes(v, u, ("tcp",), OPEN_PORT), refused=refused, within_s=within_s)

    def must_take_changes(self, within_s: float = 30) -> None:
        """Rules, members, addresses of an address group, and ports, one after the other."""
        world, u, v, w = self.world, self.u, self.v, self.w
        rules = world.allow(self.group, "udp", 443)
        world.settle(passes=world.probes(w, u, ("udp",), 443), within_s=within_s)
        world.disallow(rules)
        world.settle(refused=world.probes(w, u, ("udp",), 443), within_s=within_s)
        with world.assigned(w, [self.friends]):
            world.settle(passes=world.probes(w, u, ("tcp",), OPEN_PORT), within_s=within_s)
        with world.assigned(v, [self.others]):
            world.settle(refused=world.probes(v, u, ("tcp",), OPEN_PORT), within_s=within_s)
        addresses = world.api.create("address_group", name=world.name("offices"), addresses=[f"{v.v4}/32"])
        rules = world.allow(self.group, "tcp", 22, families=(4,), remote_address_group_id=addresses["id"])
        from_v, from_w = (world.probes(who, u, ("tcp",), 22, (4,)) for who in (v, w))
        world.settle(passes=from_v, refused=from_w, within_s=within_s)
        world.api.change_addresses(addresses["id"], add=[f"{w.v4}/32"], remove=[f"{v.v4}/32"])
        world.settle(passes=from_w, refused=from_v, within_s=within_s)
        world.disallow(rules)
        world.settle(refused=from_w + from_v, within_s=within_s)
        world.api.delete("address_group", addresses["id"])
        self.must_hold(within_s)
