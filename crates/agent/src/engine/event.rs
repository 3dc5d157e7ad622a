//! What the engine is told, and what it wants done: values, nothing else crosses its edge.

use std::sync::Arc;
use std::time::Duration;

use ovsdb::Uuid;
use pipeline::{FlowBody, Zone};
use policy::{PolicyDelta, PortId};
use reconcile::Change;
use rust_openflow::{Flow, FlowKey};

use super::{Report, Stage};
use crate::host::RowChange;

/// One change of one flow, from what the switch holds to what it shall hold.
pub type FlowChange = Change<FlowKey, FlowBody>;

/// Numbers the connections to the switch: what belongs to an earlier one is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LinkId(pub u64);

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The policy changed; the first one, even when empty, says that there is a policy.
    Policy(PolicyDelta),
    /// About the connection to the Open_vSwitch database.
    Database(DatabaseEvent),
    /// About a connection to the switch.
    Switch(LinkId, SwitchEvent),
    /// A time that [`Effect::WakeAt`] asked for has come.
    Tick,
}

/// About the connection to the database.
#[derive(Clone, Debug)]
pub enum DatabaseEvent {
    /// Connected; the rows of now follow, as changes to what was known. No lock is held.
    Connected,
    /// Rows changed, those of whole transactions.
    Rows(Vec<RowChange>),
    /// The lock of this bridge is ours.
    Locked,
    /// Another took the lock.
    Stolen,
    /// The connection is gone, or did not come about.
    Lost {
        /// Why.
        reason: String,
    },
    /// The answer to [`Effect::Write`]; the rows it changed were told before.
    Written(Result<(), String>),
}

/// About one connection to the switch.
#[derive(Clone, Debug)]
pub enum SwitchEvent {
    /// It stands.
    Connected,
    /// It is gone, or did not come about.
    Lost {
        /// Why.
        reason: String,
    },
    /// Flows that concern us were changed, and not by this connection.
    Drift,
    /// The answer to [`Effect::ReadBack`]: every flow of the bridge.
    Flows(Vec<Flow>),
    /// The answer to [`Effect::FlushZones`].
    ZonesFlushed(Result<(), String>),
    /// The answer to [`Effect::Bundle`].
    Bundled(Result<(), BundleFailure>),
    /// The answer to [`Effect::Revalidate`].
    Revalidated(Revalidation),
}

/// A bundle that was not, or perhaps not, applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleFailure {
    /// The switch refused it: nothing of it was applied.
    Refused(Vec<Refusal>),
    /// No answer: it may have been applied or not.
    Unknown {
        /// What went wrong.
        reason: String,
    },
}

/// What the switch has against a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which change of the bundle; `None` when it does not say.
    pub index: Option<usize>,
    /// The OpenFlow error by name.
    pub error: String,
}

/// Whether the datapath's caches follow the flow tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revalidation {
    /// ovs-vswitchd said so.
    Confirmed,
    /// It would not say; we waited for as long as it takes at most.
    Waited {
        /// Why it would not say.
        reason: String,
        /// How long we waited.
        time: Duration,
    },
}

/// Something to be done. Everything but `Disconnect`, `Report`, `Stage`, `Audited`, `Local` and `WakeAt` is answered by one event.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Connect to the bridge: [`SwitchEvent::Connected`], then perhaps much later [`SwitchEvent::Lost`].
    Connect(LinkId),
    /// Give the connection up; no answer.
    Disconnect(LinkId),
    /// Dump all flows of the bridge.
    ReadBack(LinkId),
    /// Forget every connection in these conntrack zones.
    FlushZones(LinkId, Vec<Zone>),
    /// Apply these changes in one atomic, ordered bundle.
    Bundle(LinkId, Arc<[FlowChange]>),
    /// Wait until the datapath's caches hold nothing that the flow tables do not say any more.
    Revalidate(LinkId),
    /// Change the database, in one transaction that takes for granted that we hold the lock.
    Write(Vec<DatabaseWrite>),
    /// Tell people.
    Report(Report),
    /// Note how long it took to this stage, since the time of the first event that the change follows from. No answer.
    Stage(Stage, Duration),
    /// What was read back is so different from what is wanted; no answer.
    Audited(Arc<[FlowChange]>),
    /// A port is on this host, or is not any more; told again whenever it is looked at. No answer.
    Local(PortId, bool),
    /// Send [`Event::Tick`] at this time, and not at the one said before.
    WakeAt(Duration),
}

/// One thing to be written to the database. Keys of others in the same column are left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseWrite {
    /// Bridge `fail_mode` = `secure`, and a new number of the configuration: when ovs-vswitchd says that it has taken
    /// that ([`Configuration`](crate::host::Configuration)), it has dropped the flows for the last time.
    FailModeSecure {
        /// The bridge.
        bridge: Uuid,
    },
    /// The high-water mark of the generations.
    Generation {
        /// The bridge.
        bridge: Uuid,
        /// All below may be in use.
        mark: u32,
    },
    /// The conntrack zone of an Interface.
    Zone {
        /// The Interface.
        interface: Uuid,
        /// Its zone.
        zone: Zone,
        /// Whom it is given to.
        port: PortId,
    },
    /// The prefixes of a flow table.
    Prefixes {
        /// The bridge.
        bridge: Uuid,
        /// OpenFlow table number.
        table: u8,
        /// The row to change; `None`: a new one, of this name.
        row: Option<Uuid>,
        /// Name of a new row.
        name: &'static str,
        /// The fields.
        prefixes: &'static [&'static str],
    },
}
