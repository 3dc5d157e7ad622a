//! What enforces a policy. A driver is given the policy piece by piece and says how far it has come.

mod hybrid;
mod listing;
mod noop;
mod openvswitch;

use std::collections::BTreeSet;
use std::future::Future;

use policy::{Policy, PolicyDelta, PortId};
use tokio::sync::oneshot;

pub(crate) use hybrid::SINCE;
pub use hybrid::{
    Hybrid, HybridError, HybridSetup, InForce, OnceError, Variant, converge_once, in_force, programs_started,
    remove_all,
};
pub use noop::Noop;
pub use openvswitch::{Found, MirrorOptions, OpenvSwitch, Setup, SetupError, openflow_target};

use crate::api::{Drops, DropsQuery, GroupPage, KernelSets, PortPage, Question, SetFill};
use crate::engine::{Facts, Health, Report, Status};
use crate::host::ClosedInterface;

/// A datapath that is kept as the policy says.
///
/// The caller's loop gives changes with [`Driver::policy`] and awaits [`Driver::report`], in which the driver does
/// all its work: a driver whose reports nobody awaits stands still.
pub trait Driver {
    /// Its name as `firewall_driver`.
    fn name(&self) -> &'static str;

    /// The policy changed. The first change, even an empty one, says that there is a policy; before it the datapath
    /// is left as it is.
    fn policy(&mut self, delta: PolicyDelta);

    /// Works until there is something to tell. Cancel safe: a report is not lost, and what is under way stays so.
    fn report(&mut self) -> impl Future<Output = Report> + Send;

    /// Whether an interface of the bridge says that it is this port.
    fn is_plugged(&self, port: &PortId) -> bool;

    /// All ports of which [`Driver::is_plugged`] is true; none before the database was seen.
    fn plugged(&self) -> Option<BTreeSet<PortId>>;

    /// The interfaces that say they are a port's, and are closed for what they are.
    fn closed(&self) -> Vec<ClosedInterface>;

    /// How the datapath is.
    fn health(&self) -> Health;

    /// What is enforced at the moment.
    fn status(&self) -> Status;

    /// What has been done since the driver began. As cheap as [`Driver::status`].
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// The kernel's sets of members in sum; none where there are none. As cheap.
    fn kernel_sets(&self) -> Option<KernelSets> {
        None
    }

    /// The fullest of the kernel's sets that have a limit, fullest first; so many at most.
    fn fullest_sets(&self, _most: usize) -> Vec<SetFill> {
        Vec::new()
    }

    /// Answers with a page of the ports of this host, now or in a while; what it costs the caller's loop does not grow with the policy.
    fn list_ports(&mut self, question: Question<PortPage>) {
        // Who asked may be gone.
        _ = question.answer.send(PortPage::default());
    }

    /// Answers with what is dropped, now or in a while; there is no answer from who does not look.
    fn tell_drops(&mut self, _query: DropsQuery, _answer: oneshot::Sender<Drops>) {}

    /// Answers with the policy that is to be enforced, if there is one yet; there is no answer from who keeps none. Its objects are shared, so that the loop waits as long as
    /// it takes to copy their ids.
    fn tell_policy(&mut self, _answer: oneshot::Sender<Option<Policy>>) {}

    /// Answers with a page of the policy's groups, as [`Driver::list_ports`] does.
    fn list_groups(&mut self, question: Question<GroupPage>) {
        _ = question.answer.send(GroupPage::default());
    }
}
