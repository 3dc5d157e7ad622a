//! What sgflow reads from the Open_vSwitch database, row by row (ovs-vswitchd.conf.db(5), 3.1).
//!
//! A row that is not well formed in a column that matters (a tag that is no VLAN, a zone that is no number) is
//! kept as what it is, so that the port concerned is closed with a reason instead of being guessed at.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::Uuid;
use pipeline::{OfPort, Zone};
use policy::{MacAddr, PortId};

/// Key of an Interface's `external_ids` that says which port it is (as Neutron, Nova and libvirt write it).
pub const IFACE_ID: &str = "iface-id";
/// Key of an Interface's `external_ids` that says which MAC is behind it (as Nova and Neutron write it).
pub const ATTACHED_MAC: &str = "attached-mac";
/// Key of an Interface's `external_ids` that keeps its conntrack zone.
pub const ZONE: &str = "sgflow-zone";
/// Key of an Interface's `external_ids` that keeps which port that zone was given to.
pub const ZONE_PORT: &str = "sgflow-port";
/// Key of an Interface's `external_ids` that says that it leads to the network: `true`.
pub const NETWORK: &str = "sgflow-network";
/// Key of a Bridge's `external_ids` that keeps the high-water mark of the generations: all below may be in use.
pub const GENERATION: &str = "sgflow-generation";

/// A row that appeared, changed (whole new version) or went (`None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Of table Bridge.
    Bridge(Uuid, Option<BridgeRow>),
    /// Of table Port.
    Port(Uuid, Option<PortRow>),
    /// Of table Interface.
    Interface(Uuid, Option<InterfaceRow>),
    /// Of table Flow_Table.
    FlowTable(Uuid, Option<FlowTableRow>),
    /// Of the row of table Open_vSwitch.
    Configuration(Configuration),
}

/// How far ovs-vswitchd has come with what the database says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Configuration {
    /// `next_cfg`: who waits for a change of his to be taken adds one to it.
    pub wanted: i64,
    /// `cur_cfg`: what `next_cfg` was in the configuration that ovs-vswitchd has taken.
    pub taken: i64,
    /// `other_config:flow-restore-wait` is `true`: somebody gives a switch that has just begun the flows back that the one
    /// before it had (`ovs-ctl restart`), and wants nobody to change them before he is done.
    pub restoring: bool,
}

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BridgeRow {
    /// `name`.
    pub name: String,
    /// `ports`.
    pub ports: BTreeSet<Uuid>,
    /// `fail_mode`; none means `standalone`.
    pub fail_mode: Option<String>,
    /// `external_ids:sgflow-generation`, as it stands there.
    pub generation: Option<String>,
    /// `flow_tables`: rows of table Flow_Table by OpenFlow table number.
    pub flow_tables: BTreeMap<u8, Uuid>,
}

impl BridgeRow {
    /// The fail_mode with which the bridge forwards whatever no flow stops; `None` when it is `secure`.
    pub fn unsafe_fail_mode(&self) -> Option<&str> {
        let fail_mode = self.fail_mode.as_deref().unwrap_or("standalone");
        (fail_mode != "secure").then_some(fail_mode)
    }
}

/// A port of a bridge, in OVSDB's sense: one interface, or a bond of several.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortRow {
    /// `name`.
    pub name: String,
    /// `interfaces`.
    pub interfaces: BTreeSet<Uuid>,
    /// `tag`, else `other_config:tag` where Neutron keeps it.
    pub tag: Tag,
}

/// The VLAN of a port as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Tag {
    /// No tag at all: the untagged network.
    #[default]
    None,
    /// Column `tag`, 0 to 4095.
    Column(u16),
    /// `other_config:tag`, as it stands there.
    OtherConfig(String),
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InterfaceRow {
    /// `name`.
    pub name: String,
    /// `type`; empty means `system`.
    pub kind: String,
    /// `ofport` when the switch has opened the interface: -1 and none are `None`.
    pub ofport: Option<OfPort>,
    /// `error`: why the switch could not open it.
    pub error: Option<String>,
    /// `external_ids:iface-id`; an empty one is none.
    pub iface_id: Option<PortId>,
    /// `external_ids:sgflow-zone` when it is one that we give out.
    pub zone: Option<Zone>,
    /// `external_ids:sgflow-port`: whose connections may be in that zone.
    pub zone_port: Option<PortId>,
    /// `external_ids:sgflow-network` is `true`.
    pub network: bool,
    /// `external_ids:attached-mac`, if it is the MAC of a station.
    pub attached_mac: Option<MacAddr>,
}

/// The configuration of one OpenFlow table.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FlowTableRow {
    /// `name`.
    pub name: Option<String>,
    /// `prefixes`: the fields looked up in a trie.
    pub prefixes: BTreeSet<String>,
}
