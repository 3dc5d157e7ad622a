//! The host as its database tells it: bridge, plugs, zones.

mod hybrid;
mod role;
mod rows;
mod view;
mod zones;

pub use hybrid::{HybridPorts, PlugChange, Plugging, PortSight};
pub use role::{Closed, NetworkPorts, Role};
pub use rows::{
    ATTACHED_MAC, BridgeRow, Configuration, FlowTableRow, GENERATION, IFACE_ID, InterfaceRow, NETWORK,
    PortRow, RowChange, Tag, ZONE, ZONE_PORT,
};
pub use view::{AttachmentChange, ClosedInterface, HostDelta, HostView, Spot};
pub use zones::{FIRST_ZONE, LAST_ZONE, Zones, ZonesExhausted};
