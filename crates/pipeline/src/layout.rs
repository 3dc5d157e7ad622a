//! The layout of `flows/pipeline.toml` as constants: one module a table, the registers, cookies and reasons.
#![allow(missing_docs, reason = "generated: the documents of flows/pipeline.toml stand on every item")]

include!(concat!(env!("OUT_DIR"), "/layout.rs"));

/// The declared pipeline as data.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// How a cookie is made up.
    pub cookie: &'static str,
    /// (field, name, document).
    pub registers: &'static [(&'static str, &'static str, &'static str)],
    /// (value of `reg10`, name, document).
    pub reasons: &'static [(u8, &'static str, &'static str)],
    /// (kind of cookie, name, document).
    pub kinds: &'static [(u8, &'static str, &'static str)],
    /// The tables in the order of a packet's way.
    pub tables: &'static [TableLayout],
}

/// One table.
#[derive(Clone, Copy, Debug)]
pub struct TableLayout {
    /// OpenFlow table number.
    pub id: u8,
    /// Name, as in the documents.
    pub name: &'static str,
    /// What happens there.
    pub doc: &'static str,
    /// Its priorities, highest first.
    pub slots: &'static [SlotLayout],
}

/// One priority of a table.
#[derive(Clone, Copy, Debug)]
pub struct SlotLayout {
    /// Name, as in the code.
    pub name: &'static str,
    /// OpenFlow priority.
    pub priority: u16,
    /// What flows there match, in words.
    pub matches: &'static str,
    /// What flows there do, in words.
    pub action: &'static str,
}

/// The (table, fields) whose prefixes ovs-vswitchd shall look up in a trie (`Flow_Table` column `prefixes`, at
/// most three fields a table, ovs-vswitchd.conf.db(5)): the default covers plain IPv4 only, and un-wildcards all
/// 128 bits of an IPv6 address.
pub const TABLE_PREFIXES: &[(u8, &str, &[&str])] = &[
    (egress_packet::TABLE, "sgflow-egress-packet", &["nw_dst", "ipv6_dst"]),
    (egress_policy::TABLE, "sgflow-egress-policy", &["ct_nw_dst", "ct_ipv6_dst"]),
    (ingress_packet::TABLE, "sgflow-ingress-packet", &["nw_src", "ipv6_src"]),
    (ingress_policy::TABLE, "sgflow-ingress-policy", &["ct_nw_src", "ct_ipv6_src"]),
];
