//! What the worker keeps the kernel as the policy says with.

use std::collections::BTreeSet;

use hybrid::{Changes, Dialect};

use super::Failure;
use crate::api::{KernelSets, SetFill};
use crate::engine::Sent;

/// Where rules and sets are kept.
pub(super) trait Backend {
    /// In whose words.
    type Dialect: Dialect;

    /// Reads what the kernel has.
    ///
    /// # Errors
    /// It does not answer.
    fn read_back(&mut self) -> Result<(), Failure>;

    /// The zones that the kernel has for devices, by what their names end in.
    fn zones(&self) -> &[(String, u16)];

    /// What has been dropped at the ports of before that had these zones is forgotten: another port has them from now on.
    ///
    /// # Errors
    /// The kernel does not answer, or refuses.
    fn forget_drops(&mut self, zones: &BTreeSet<u16>) -> Result<(), Failure>;

    /// It shall be otherwise from now on.
    fn want(&mut self, changes: Changes<Self::Dialect>);

    /// What [`Backend::put_in_force`] would change, in words.
    ///
    /// # Errors
    /// The kernel does not answer.
    fn pending(&mut self) -> Result<Vec<String>, Failure>;

    /// Makes the kernel as it shall be, so that at no instant something is admitted that neither what was in force before nor what is then
    /// admits; says what was done.
    ///
    /// # Errors
    /// The kernel refuses: what it has is to be read back.
    fn put_in_force(&mut self) -> Result<Sent, Failure>;

    /// Something of ours that is not its was changed in nftables.
    fn note_own_change(&mut self);

    /// Looks whether somebody else changed something, thoroughly if that was long ago; whether what the kernel has is to be read back.
    fn look(&mut self, is_long_ago: bool) -> bool;

    /// What is not as it should be: an object, and why.
    fn faults(&self) -> Vec<(String, String)>;

    /// How full the kernel's sets are that hold these members.
    fn fill(&self, set: &str) -> Vec<SetFill>;

    /// The kernel's sets of members in sum, and the fullest of those that have a limit, so many at most.
    fn fills(&self, most: usize) -> (KernelSets, Vec<SetFill>);

    /// How many sets of members and how many rules there shall be.
    fn counts(&self) -> (usize, usize);
}
