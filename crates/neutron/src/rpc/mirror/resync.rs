//! Asking for everything, in stages: what others name, then which ports there are, then the ports.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rpc::object::Kind;

/// How often an empty answer is given in a row before it is believed, [`EMPTY_PAUSE`] apart: for two minutes. A call without the context of an administrator is answered
/// with an empty list, not with an error, and so may be one while a server starts or its database is restored: a policy that is emptied for that reason
/// cuts off the cloud. A cloud that is really emptied says so by its pushes, object by object, so this is waited for only after an outage.
const EMPTY_ANSWERS: u32 = 5;
/// See [`EMPTY_ANSWERS`].
pub(super) const EMPTY_PAUSE: Duration = Duration::from_secs(30);

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// So many of [`REFERENTS`] are left.
    Referents(usize),
    /// Which ports there are.
    PortIds,
    /// So many answers are left.
    Ports(usize),
}

/// What is asked for first, since others name it.
pub(super) const REFERENTS: [Kind; 2] = [Kind::SecurityGroup, Kind::AddressGroup];

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Resync {
    pub(super) began: Duration,
    pub(super) stage: Stage,
    /// Some object was not in an answer, and was pushed too shortly before to be gone.
    pub(super) spared: bool,
    /// Empty answers in a row that were not believed.
    empty: BTreeMap<Kind, u32>,
}

impl Resync {
    pub(super) fn new(now: Duration) -> Self {
        let stage = Stage::Referents(REFERENTS.len());
        Resync { began: now, stage, spared: false, empty: BTreeMap::new() }
    }

    /// An empty answer came where none was expected: whether it is believed by now; if not, which one in a row it is.
    pub(super) fn doubt(&mut self, kind: Kind) -> Option<u32> {
        let count = self.empty.entry(kind).or_default();
        *count += 1;
        (*count < EMPTY_ANSWERS).then_some(*count)
    }

    /// An answer came that is not empty.
    pub(super) fn trust(&mut self, kind: Kind) {
        self.empty.remove(&kind);
    }
}
