//! The kernel's tables of rules (nf_tables), as nft(8) makes them, over netlink: no library of C, no program.
//!
//! The wire is that of the kernel's `include/uapi/linux/netfilter/nf_tables.h`; what nft(8) writes for itself, so that it can print what is
//! there, is written as it does. Operations are gathered in a [`Batch`], of which [`Nftables::commit`] has the kernel do all or nothing.
//!
//! ```no_run
//! use nftables::{Base, Batch, Chain, ChainKind, DataType, Element, Family, Hook, Keys, Nftables, Place, Policy, Rule};
//! use nftables::{Selector, Set, Statements, Table, TableId, Value, Verdict, MetaKey};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let table = TableId { family: Family::Bridge, name: "ports".parse()? };
//! let (chain, map) = (table.chain("forward")?, table.set("by-port")?);
//! let hook = Base { kind: ChainKind::Filter, hook: Hook::FORWARD, priority: 0, policy: Policy::Drop };
//! let dispatch = Statements::new().decide_by(&[Selector::Meta(MetaKey::IIFNAME)], &map.name);
//!
//! let mut batch = Batch::new();
//! batch
//!     .add_table(&Table::new(table))
//!     .add_chain(&Chain::base(chain.clone(), hook))
//!     .add_set(&Set::verdict_map(map.clone(), &[DataType::InterfaceName], Keys::Single))
//!     .add_elements(&map, [Element::key(Value::interface("tap1")).to(Verdict::Accept)])
//!     .add_rule(&Rule::new(chain, dispatch).with_comment("which port"), Place::Last);
//! Nftables::open()?.commit(&batch)?;
//! # Ok(()) }
//! ```
//!
//! What a user of tables has to know:
//!
//! - what is to be deleted must be there, or nothing of the batch is done: look first, and commit for the generation in which one looked
//!   ([`Nftables::commit_for`]);
//! - ranges of one set, also of concatenated fields, must not overlap, or they are refused as what exists: who has prefixes that lie in
//!   each other merges them before;
//! - a set of single keys is a hash table, a change of which costs the same however large it is. A set of ranges is a tree, a change of
//!   which goes through all of it (Linux 6.18: 0.2 ms with 10,000 ranges, 11 ms with 100,000). So does one of a set of ranges of
//!   concatenated fields (0.3 ms with 10,000), a deletion from which makes it anew (4 ms with 1,000, 40 ms with 10,000), and which is
//!   filled in quadratic time where many elements have a field in common (0.8 s for 10,000, 77 s for 100,000);
//! - a set of single keys may be told in part while the kernel makes room in it: [`Nftables::elements`];
//! - tables of bridges see no connections (`ct`) where the kernel is built without `NF_CONNTRACK_BRIDGE`, and no names of bridges without
//!   `NFT_BRIDGE_META`: [`Nftables::probe`]. They can leave a frame untracked all the same ([`Expr::NoTrack`]): in the hooks of IP that a
//!   bridge's frames pass with `bridge-nf-call-iptables`, it is untracked then, and fragments of it are not put together;
//! - bytes of packets are in the order of the network, the kernel's own numbers (marks, zones, states) in that of the machine: [`Value`].
#![forbid(unsafe_code)]

mod batch;
mod data_type;
mod element;
mod error;
mod expr;
mod expr_wire;
mod kernel;
mod name;
mod probe;
mod rule;
mod set;
mod statement;
mod table;
#[cfg(test)]
mod tests;
mod userdata;
mod value;
mod wire;

pub use batch::Batch;
pub use data_type::DataType;
pub use element::{Counter, Element, ranges};
pub use error::{Error, Refused};
pub use expr::{Comparison, CtKey, Direction, Expr, Field, Header, MetaKey, Register};
pub use kernel::Nftables;
pub use name::{ChainId, Family, Name, NameError, SetId, TableId};
pub use probe::{Lack, Need};
pub use rule::{Place, Rule};
pub use set::{Keys, Set, SetData, SetFlags};
pub use statement::{Selector, Statements, Target};
pub use table::{Base, Chain, ChainKind, Hook, Policy, Table};
pub use value::{Data, Value, Verdict};
