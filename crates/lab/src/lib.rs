//! A private Open vSwitch, network namespaces as virtual machines, and probes between them; and a host of the hybrid bridge
//! ([`HybridHost`]).
//!
//! The demo, the benchmarks and the integration tests stand on this crate. It needs root, the Open vSwitch
//! programs and iproute2, and nothing else of sgflow.
//!
//! ```no_run
//! use lab::{FailMode, Ovs, OvsOptions, TcpProbe, VmSpec};
//!
//! # fn main() -> Result<(), lab::Error> {
//! let ovs = Ovs::start(OvsOptions::default())?;
//! ovs.add_bridge("br-int", FailMode::Standalone)?;
//! let web = ovs.add_vm(VmSpec::new("web", "p-1", "fa:16:3e:00:00:01".parse()?).address("10.0.0.1/24")?)?;
//! let client = ovs.add_vm(VmSpec::new("client", "p-2", "fa:16:3e:00:00:02".parse()?).address("10.0.0.2/24")?)?;
//! let _server = web.listen_tcp("10.0.0.1:80".parse().expect("an address literal"))?;
//! println!("{:?}", client.probe_tcp(&TcpProbe::new("10.0.0.1:80".parse().expect("an address literal")))?);
//! # Ok(()) }
//! ```
//!
//! # Nothing is left behind
//!
//! - A namespace has no name: it exists as long as a descriptor of this process ([`NetNs`]) or a process in it does.
//! - Every daemon is a child that the kernel kills when this process ends, however it ends ([`process`]).
//! - The run directory is removed when the [`Ovs`] is dropped, and by a small janitor process if this process
//!   is killed before that ([`rundir`]).
//! - The run directory of the machine's own Open vSwitch is never touched: every program is told where to look.
//!
//! Only a lab with a name ([`OvsOptions::named`]) can outlive the process, by [`Ovs::keep`]; [`teardown`] removes it.
//!
//! # One switch a namespace
//!
//! Only one ovs-vswitchd with a userspace datapath fits in a network namespace (both would make the tap device
//! `ovs-netdev`; seen with 3.1.0), so every [`Ovs`] brings its own namespace, and any number of them run side by side.

mod databases;
mod dummy;
mod error;
mod hybrid;
mod mac;
mod named;
mod netns;
mod ovs;
mod packet_socket;
mod probe;
pub mod process;
mod quiet;
pub mod rundir;
mod server;
mod stream;
mod tap;
mod trace;
mod unixctl;
mod vm;

pub use databases::Databases;
pub use dummy::{DummyPort, DummySpec};
pub use error::Error;
pub use hybrid::{Emerged, HybridHost, HybridPort, HybridSpec, Stations, at_access_port};
pub use mac::Mac;
pub use named::teardown;
pub use netns::NetNs;
pub use ovs::{Datapath, FailMode, Ovs, OvsOptions};
pub use packet_socket::Capture;
pub use probe::{PingVerdict, TcpProbe, TcpVerdict, UdpProbe, UdpVerdict};
pub use server::{TcpServer, UdpEcho};
pub use stream::{Stream, StreamSpec, Streaming};
pub use tap::Tap;
pub use trace::Trace;
pub use unixctl::UnixCtl;
pub use vm::{Vm, VmSpec};
