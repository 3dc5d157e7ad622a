//! What neutron-server tells over the message queue, as changes of the policy of the whole cloud.
//!
//! [`Mirror`] is the state machine. A shell connects, declares and consumes the queues, hands in every message that comes, publishes the calls that come out, and
//! passes on the updates. [`envelope`] and [`object`] are the two layers of a message. Measured with Neutron 29.0.0, oslo.messaging 18.3.1 and RabbitMQ 3.10.8.
//!
//! The server pushes each object in its own version, and in every version that an agent which is alive has reported: so the mirror reports as an
//! agent, every 30 s, with the versions of [`object::Kind::version`].

pub mod envelope;
pub mod mirror;
pub mod object;

pub use mirror::{Effect, Event, Fault, Mirror, Now, Options, State, Update};

/// The exchange of all topics: the default of oslo.messaging's `control_exchange` in Neutron.
pub const EXCHANGE: &str = "neutron";
