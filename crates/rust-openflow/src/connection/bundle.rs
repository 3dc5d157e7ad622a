//! Bundles on a connection.
//!
//! Open vSwitch checks a flow-mod when it is added, and drops a bad one from the bundle without spoiling the
//! rest. So nothing is committed before the bundle is closed, and is committed only if no error came before
//! the answer to that: the switch answers in order.
//!
//! ```text
//!  open ── add … add ── close ──► close reply ─┬─ no error ── commit ──► commit reply | error
//!                                              └─ an error ── discard
//! ```

use crate::error::EncodeError;
use crate::message::{
    BundleAdd, BundleControl, BundleFlags, BundleStep, ErrorMessage, FlowMod, Message, OfError, Xid,
};

use super::{Connection, Event};

/// Failures that are listed; the rest are counted.
const MAX_FAILURES: usize = 1000;

/// A bundle of this connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BundleId(pub u32);

/// A message of the bundle that the switch refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundleFailure {
    /// Its place in the bundle, from 0.
    pub index: usize,
    /// Why.
    pub error: ErrorMessage,
}

/// Why a bundle had no effect.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BundleRefusal {
    /// The messages that are to blame, at most a thousand of them.
    pub failed: Vec<BundleFailure>,
    /// How many there are.
    pub n_failed: usize,
    /// What the switch said of the bundle as a whole.
    pub bundle_error: Option<OfError>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Filling,
    Closing,
    Committing,
    Discarding,
}

/// Transaction ids of a bundle: one to open, one a message, three to close, commit and discard.
#[derive(Debug)]
pub(super) struct Bundle {
    id: BundleId,
    first: Xid,
    /// Messages that were announced.
    size: u32,
    /// Messages that were added.
    added: u32,
    phase: Phase,
    refusal: BundleRefusal,
}

impl Bundle {
    fn open_xid(&self) -> Xid {
        self.first
    }

    fn control_xid(&self, step: u32) -> Xid {
        Xid(self.first.0 + self.size + step)
    }

    fn close_xid(&self) -> Xid {
        self.control_xid(1)
    }

    fn commit_xid(&self) -> Xid {
        self.control_xid(2)
    }

    fn discard_xid(&self) -> Xid {
        self.control_xid(3)
    }

    fn owns(&self, xid: Xid) -> bool {
        (self.first..=self.discard_xid()).contains(&xid)
    }

    fn control(&self, step: BundleStep) -> Message {
        let flags = BundleFlags::ATOMIC_ORDERED;
        Message::BundleControl(BundleControl { bundle: self.id.0, step, flags })
    }

    fn is_spoilt(&self) -> bool {
        self.refusal.n_failed > 0 || self.refusal.bundle_error.is_some()
    }
}

impl Connection {
    /// Opens an ordered, atomic bundle of up to `size` flow-mods.
    pub fn open_bundle(&mut self, size: u32) -> BundleId {
        let first = self.take_xids(size.saturating_add(4));
        let id = BundleId(first.0);
        let (phase, refusal) = (Phase::Filling, BundleRefusal::default());
        let bundle = Bundle { id, first, size, added: 0, phase, refusal };
        let open = bundle.control(BundleStep::OpenRequest);
        self.put_control(first, &open);
        self.bundles.push(bundle);
        id
    }

    /// Adds a flow-mod. After an error, which names the flow, the bundle is as it was.
    ///
    /// # Panics
    /// If the bundle is not being filled, or is full.
    pub fn add_to_bundle(&mut self, id: BundleId, flow_mod: FlowMod) -> Result<(), EncodeError> {
        let bundle = self.find(id).expect("a bundle is filled between open_bundle and commit_bundle");
        assert!(
            bundle.phase == Phase::Filling && bundle.added < bundle.size,
            "more flow-mods than announced"
        );
        let xid = Xid(bundle.first.0 + 1 + bundle.added);
        let message = Box::new(Message::FlowMod(flow_mod));
        self.put(
            xid,
            &Message::BundleAdd(BundleAdd { bundle: id.0, flags: BundleFlags::ATOMIC_ORDERED, message }),
        )?;
        if let Some(bundle) = self.find(id) {
            bundle.added += 1;
        }
        Ok(())
    }

    /// Asks for the bundle to take effect; [`Event::Bundle`] tells whether it did.
    pub fn commit_bundle(&mut self, id: BundleId) {
        if let Some(bundle) = self.find(id).filter(|bundle| bundle.phase == Phase::Filling) {
            bundle.phase = Phase::Closing;
            let (xid, close) = (bundle.close_xid(), bundle.control(BundleStep::CloseRequest));
            self.put_control(xid, &close);
        }
    }

    /// Drops a bundle that is being filled. Nothing more is heard of it.
    pub fn discard_bundle(&mut self, id: BundleId) {
        if let Some(bundle) = self.find(id).filter(|bundle| bundle.phase == Phase::Filling) {
            bundle.phase = Phase::Discarding;
            let (xid, discard) = (bundle.discard_xid(), bundle.control(BundleStep::DiscardRequest));
            self.put_control(xid, &discard);
        }
    }

    /// Opens, fills and closes a bundle at once. It all waits in the output: for great bundles, add in pieces
    /// and watch [`output_length`](Connection::output_length). If a flow-mod cannot be encoded, nothing is
    /// sent of any.
    pub fn bundle(&mut self, flow_mods: &[FlowMod]) -> Result<BundleId, EncodeError> {
        let size = u32::try_from(flow_mods.len())
            .map_err(|_| EncodeError::OutOfRange { what: "messages in a bundle", value: u128::MAX })?;
        let id = self.open_bundle(size);
        for flow_mod in flow_mods {
            if let Err(error) = self.add_to_bundle(id, flow_mod.clone()) {
                self.discard_bundle(id);
                return Err(error);
            }
        }
        self.commit_bundle(id);
        Ok(id)
    }

    /// Whether the switch may have been asked to commit: if the connection is lost now, nobody knows what
    /// became of the bundle. `None` if its fate is known.
    #[must_use]
    pub fn bundle_is_committing(&self, id: BundleId) -> Option<bool> {
        let bundle = self.bundles.iter().find(|bundle| bundle.id == id)?;
        Some(bundle.phase == Phase::Committing)
    }

    fn find(&mut self, id: BundleId) -> Option<&mut Bundle> {
        self.bundles.iter_mut().find(|bundle| bundle.id == id)
    }

    fn put_control(&mut self, xid: Xid, control: &Message) {
        self.put(xid, control).expect("a bundle control has 16 bytes");
    }

    /// An error of one of a bundle's messages; `false` if it is of none.
    pub(super) fn bundle_error(&mut self, xid: Xid, message: &ErrorMessage) -> bool {
        let Some(bundle) = self.bundles.iter_mut().find(|bundle| bundle.owns(xid)) else { return false };
        let id = bundle.id;
        let last_word = match bundle.phase {
            Phase::Filling => false,
            Phase::Closing => xid == bundle.close_xid(),
            Phase::Committing => xid == bundle.commit_xid(),
            Phase::Discarding => xid == bundle.discard_xid(),
        };
        if xid > bundle.open_xid() && xid < bundle.close_xid() {
            let index = usize::try_from(xid.0 - bundle.first.0 - 1).unwrap_or(usize::MAX);
            bundle.refusal.n_failed += 1;
            if bundle.refusal.failed.len() < MAX_FAILURES {
                bundle.refusal.failed.push(BundleFailure { index, error: message.clone() });
            }
        } else if xid != bundle.discard_xid() {
            bundle.refusal.bundle_error.get_or_insert(message.error);
        }
        if last_word {
            self.finish(id);
        }
        true
    }

    pub(super) fn bundle_reply(&mut self, xid: Xid, control: BundleControl) {
        let id = BundleId(control.bundle);
        let Some(bundle) = self.find(id) else { return };
        match (bundle.phase, control.step) {
            (Phase::Closing, BundleStep::CloseReply) if xid == bundle.close_xid() => {
                let (phase, xid, step) = if bundle.is_spoilt() {
                    (Phase::Discarding, bundle.discard_xid(), BundleStep::DiscardRequest)
                } else {
                    (Phase::Committing, bundle.commit_xid(), BundleStep::CommitRequest)
                };
                bundle.phase = phase;
                let request = bundle.control(step);
                self.put_control(xid, &request);
            }
            (Phase::Committing, BundleStep::CommitReply) if xid == bundle.commit_xid() => self.finish(id),
            (Phase::Discarding, BundleStep::DiscardReply) if xid == bundle.discard_xid() => self.finish(id),
            _ => {}
        }
    }

    /// Tells a bundle's fate: it had effect if nothing was said against it up to the answer to the commit.
    fn finish(&mut self, id: BundleId) {
        let Some(at) = self.bundles.iter().position(|bundle| bundle.id == id) else { return };
        let bundle = self.bundles.swap_remove(at);
        let committed = bundle.phase == Phase::Committing && !bundle.is_spoilt();
        let by_choice = bundle.phase == Phase::Discarding && !bundle.is_spoilt();
        if by_choice {
            return;
        }
        let result = if committed { Ok(()) } else { Err(bundle.refusal) };
        self.events.push_back(Event::Bundle { id, result });
    }
}
