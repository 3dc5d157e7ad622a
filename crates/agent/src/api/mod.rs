//! The daemon's local API: HTTP over a Unix socket, for the commands of this host.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] as JSON |
//! | `GET /v1/ports?id=&after=&limit=` | [`PortPage`]: the ports of this host |
//! | `GET /v1/groups?id=&after=&limit=` | [`GroupPage`]: the groups of the policy |
//! | `GET /v1/drops?port=&after=` | [`Drops`]: what is dropped, and samples of it |
//! | `GET /v1/policy` | the policy that is to be enforced, as a document |
//! | `GET /v1/log`, `PUT /v1/log` | [`LogState`]: what is logged; the second takes a [`LogChange`] |
//! | `GET /v1/neutron-driver` | [`DriverState`]: what is held of what Neutron's agent has told |
//! | `POST /v1/neutron-driver?wait=S` | takes a [`neutron::driver::Change`], and answers with a [`ChangeAnswer`] when it is in force |
//!
//! `docs/api/openapi.yaml` says it for those who write a client.
//!
//! Who may ask: root, the daemon's own user, and the members of group [`GROUP`]; who may change something: root, the daemon's own user, and the
//! members of [`POLICY_GROUP`] (the peer's credentials, unix(7) `SO_PEERCRED`). The daemon's loop answers between two pieces of work; a client that is
//! slow, silent or one of too many costs a place among `server::CLIENTS` for a bounded time and nothing else.

mod client;
mod driver_calls;
mod drops;
mod groups;
mod log;
mod page;
mod peer;
mod ports;
mod server;
mod status;
mod time;

use std::time::Duration;

use ::policy::Policy;
use neutron::driver::Change;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::metrics::Snapshot;

pub use client::{ClientError, drops, groups, log, policy, ports, ports_page, set_log, status};
pub use driver_calls::{Applied, ChangeAnswer, ChangeRefused, ClosedPort, DriverState};
pub use drops::{DropSample, Drops, DropsQuery, PortDrops, ReasonDrops};
pub use groups::{GroupCursor, GroupEntry, GroupKind, GroupPage, SetFill};
pub use log::{LogChange, LogFilter, LogState};
pub use page::{LARGEST_PAGE, PAGE, PageQuery, Question};
pub use peer::{GROUP, POLICY_GROUP};
pub use ports::{ID_BEGINS, PortEntry, PortPage, PortState, port_called};
pub use server::{ELSEWHERE, Server, ServerError};
pub use status::{
    Changes, Condition, Drift, FaultDocument, KernelSets, LatencyBucket, SourceStatus, StageLatency, Status,
    Totals,
};
pub(crate) use time::{rfc3339, rfc3339_ms};

/// Something that a client wants to know, for the daemon's loop to answer.
#[derive(Debug)]
pub enum Request {
    /// How the daemon is.
    Status(oneshot::Sender<Status>),
    /// How the daemon is, with all that it counts.
    Metrics(oneshot::Sender<Snapshot>),
    /// The ports of this host; no answer from who has none.
    Ports(PageQuery, oneshot::Sender<PortPage>),
    /// The groups of the policy; no answer from who has no datapath.
    Groups(PageQuery, oneshot::Sender<GroupPage>),
    /// What is dropped, of one port by its id; no answer from who does not look.
    Drops(DropsQuery, oneshot::Sender<Drops>),
    /// The policy that is to be enforced, if there is one yet; no answer from who has no datapath.
    Policy(oneshot::Sender<Option<Policy>>),
    /// What it holds of what Neutron's agent has told; no answer if the policy comes from elsewhere.
    DriverState(oneshot::Sender<DriverState>),
    /// Neutron's agent tells something; no answer if the policy comes from elsewhere.
    Change {
        /// What.
        change: Box<Change>,
        /// How long it may take to be in force.
        wait: Duration,
        /// What came of it.
        answer: oneshot::Sender<Result<ChangeAnswer, ChangeRefused>>,
    },
}

/// The daemon's loop is ending, or does not answer in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Late;

/// Asks the daemon's loop: nothing if it answers nothing.
pub(crate) async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
    within: Duration,
) -> Result<Option<T>, Late> {
    let (sender, answer) = oneshot::channel();
    let ask = async {
        requests.send(request(sender)).await.map_err(|_| Late)?;
        Ok(answer.await.ok())
    };
    timeout(within, ask).await.map_err(|_| Late)?
}
