//! Names of tables: ours, those of Neutron's agent, and the one that ovs-vswitchd keeps for itself.

use pipeline::LAYOUT;

/// ovs-vswitchd's own table (ofproto/ofproto-provider.h: `TBL_INTERNAL`).
pub(super) const INTERNAL: u8 = 254;

/// Tables of the integration bridge, by the names that Neutron's constants give them
/// (neutron_lib/plugins/ml2/ovs_constants.py, neutron-lib 3.x).
const NEUTRON: [(u8, &str); 26] = [
    (0, "local_switching"),
    (1, "dvr_to_src_mac"),
    (2, "dvr_to_src_mac_physical"),
    (3, "arp_dvr_mac_to_dst_mac"),
    (4, "arp_dvr_mac_to_dst_mac_physical"),
    (23, "canary"),
    (24, "arp_spoof"),
    (25, "mac_spoof"),
    (30, "local_egress"),
    (31, "local_ip"),
    (58, "packet_rate_limit"),
    (59, "bandwidth_rate_limit"),
    (60, "transient"),
    (61, "local_mac_direct"),
    (62, "transient_egress"),
    (71, "base_egress"),
    (72, "rules_egress"),
    (73, "accept_or_ingress"),
    (77, "dhcp_ipv4"),
    (78, "dhcp_ipv6"),
    (81, "base_ingress"),
    (82, "rules_ingress"),
    (91, "accepted_egress_traffic"),
    (92, "accepted_ingress_traffic"),
    (93, "dropped_traffic"),
    (94, "accepted_egress_traffic_normal"),
];

/// The name of a table, as whoever writes there calls it.
pub(super) fn name(table: u8) -> Option<&'static str> {
    if table == INTERNAL {
        return Some("internal");
    }
    neutron(table).or_else(|| ours(table))
}

/// The name of a table of ours.
pub(crate) fn ours(table: u8) -> Option<&'static str> {
    LAYOUT.tables.iter().find(|ours| ours.id == table).map(|ours| ours.name)
}

/// The name of a table of Neutron's agent.
pub(crate) fn neutron(table: u8) -> Option<&'static str> {
    NEUTRON.iter().find(|(number, _)| *number == table).map(|(_, name)| *name)
}
