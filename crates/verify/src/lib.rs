//! What the flow tables do, found out by means that share no code with what renders them.
//!
//! ```text
//!  Flow… ──► Tables::new (refuses what the switch would, and what this crate cannot follow)
//!               │
//!  Packet ──► run ◄── Conntrack (Connections: a model of the tracker; Scripted: states given beforehand)
//!               │
//!            Outcome: frames out, connections committed, every table visited with the packet as it was there
//! ```
//!
//! [`run`] follows ovs-fields(7) and ovs-actions(7) of Open vSwitch 3.1 and what that switch was seen to do: priorities,
//! masks, conjunctive matches, resubmits that come back, registers, connection tracking, clones. Where the manual
//! says that the result is unpredictable (flows that overlap at one priority, two conjunctions that are complete) and
//! the possible results differ, it is an error and no result.
//!
//! The tests hold it against `ofproto/trace` of a real switch, and hold `policy::evaluator` and the rendered flows
//! against one another by it.
//!
//! ```
//! use rust_openflow::{Field, Flow, PortNo};
//! use verify::{Connections, Packet, Tables, run};
//!
//! let flows = ["table=0,priority=1,in_port=1 actions=set_field:7->reg0,resubmit(,5)", "table=5,reg0=7 actions=output:2"];
//! let tables = Tables::new(flows.map(|flow| flow.parse::<Flow>().expect("a flow")))?;
//! let packet = Packet::new(PortNo(1)).with(Field::EthType, 0x0800u16);
//! let outcome = run(&tables, packet, &mut Connections::default())?;
//! assert_eq!(outcome.outputs[0].port, PortNo(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod audit;
mod connections;
mod conntrack;
mod error;
mod frame;
mod interpreter;
mod lookup;
mod meaning;
mod outcome;
mod packet;
mod prerequisites;
pub mod symbolic;
mod tables;

pub use connections::Connections;
pub use conntrack::{Conntrack, Scripted, Stamp, Tracked, Tuple};
pub use error::{Fault, RefusedFlow, RunError};
pub use interpreter::{MAX_DEPTH, MAX_RECIRCULATIONS, MAX_RESUBMITS, run, run_across, run_from};
pub use meaning::{Meaning, MeaningError};
pub use outcome::{Commit, Outcome, Output, Visit};
pub use packet::{NoTag, Packet, Tag};
pub use tables::{FlowId, Tables};
