//! Host view to Open vSwitch flow tables.
//!
//! ```text
//!  PolicyDelta ──► membership ──► remotes ─┐
//!      │                                   ├─► cells (rules, clauses, members) ─┐
//!      └──► sets of groups ────────────────┘                                    │
//!  bind ──► placements ──► ports ───────────────────────────────────────────────┼─► journal ─► Batch of FlowOps
//!              └────────► networks (chunks, MACs, trunks) ──────────────────────┘
//! ```
//!
//! [`Renderer`] is told what changed (a [`policy::PolicyDelta`], a port bound or gone, a network port) and says at
//! [`Renderer::commit`] which flows changed. It never renders anything twice: a member, a rule or a port costs its
//! own flows, whatever else is on the host. The layout it writes is declared in `flows/pipeline.toml` and compiled
//! into [`layout`]; `docs/pipeline.md` is the same file for people.
//!
//! Pure: no clock, chance, file or socket; the same history gives the same flows.
#![forbid(unsafe_code)]

mod address;
mod cells;
mod cookie;
mod flow;
mod hook;
mod ids;
mod known;
pub mod layout;
mod names;
mod network;
mod numbers;
mod observe;
mod placement;
mod port_flows;
mod remote;
mod renderer;
mod service;
mod set_flows;
mod sets;
mod static_flows;
mod takeover;

pub use cookie::{OURS_MASK, cookie, decode as decode_cookie, is_ours};
pub use flow::{FlowBody, FlowOp};
pub use hook::Hook;
pub use known::Known;
pub use layout::{DropReason, FlowKind, LAYOUT, TABLE_PREFIXES};
pub use names::Name;
pub use network::NetworkPort;
pub use numbers::{Generation, GenerationPool, GenerationsExhausted, OfPort, RemoteId, SetId, Vlan, Zone};
pub use observe::{
    CONTROLLER, METER_ADMITTED, METER_DROPS, METER_PORT_DROPS, Observed, Onwards, Owner, is_enforcing,
};
pub use placement::Binding;
pub use remote::{RemoteKey, RemoteUse};
pub use renderer::{Batch, Config, RefusedRule, Renderer, Standing};
pub use service::unsupported;
pub use takeover::is_to_be_taken_over;
