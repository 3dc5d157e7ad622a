//! All packets at once on their way through the tables.

use rust_openflow::{Action, Ct, CtZone, Field, PortNo};

use crate::MAX_DEPTH;

use super::error::ProofError;
use super::partition::Partitions;
use super::space::{Region, Space};
use super::view::{Source, View};

/// What happens to packets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Event {
    /// They come to a table at which the walk ends.
    Reached(u8),
    /// They leave by a port.
    Output(PortNo),
    /// They are tracked and go on at a table; only in walks that end there.
    Tracked {
        /// The zone.
        zone: u16,
        /// The table.
        table: u8,
    },
    /// Their connection is committed, and its mark becomes this.
    Commit {
        /// The zone.
        zone: u16,
        /// The mark.
        mark: u32,
    },
}

/// What happens, to which packets, and what their fields are then.
pub(crate) struct Leaf {
    pub(crate) event: Event,
    pub(crate) region: Region,
    pub(crate) view: View,
}

/// The tracker's answer: the packet's view after it, in a zone. One state of connections at a time.
pub(crate) type Tracker<'a> = dyn Fn(u16, &mut View) + 'a;

/// A walk of all packets of one view.
pub(crate) struct Walk<'a, 't> {
    pub(crate) space: &'a Space,
    pub(crate) partitions: &'a mut Partitions<'t>,
    /// Tables at which it ends.
    pub(crate) ends: &'a [u8],
    /// Without one the walk ends where packets are tracked.
    pub(crate) tracker: Option<&'a Tracker<'a>>,
    pub(crate) leaves: Vec<Leaf>,
}

/// Packets of one view, on their way.
type State = (Region, View);

impl Walk<'_, '_> {
    /// Sends packets into a table, and tells what is left of them when they come back.
    pub(crate) fn enter(&mut self, table: u8, state: State, depth: usize) -> Result<Vec<State>, ProofError> {
        let (region, view) = state;
        if self.ends.contains(&table) {
            self.leaves.push(Leaf {
                event: Event::Reached(table),
                region: region.clone(),
                view: view.clone(),
            });
            return Ok(vec![(region, view)]);
        }
        if depth > MAX_DEPTH {
            return Err(ProofError::TooDeep);
        }
        let partition = self.partitions.of(self.space, table, &view)?;
        let tables = self.partitions.tables();
        let mut back = Vec::new();
        let mut missed = region.clone();
        for (part, flow) in partition.iter() {
            let here = part.and(&region)?;
            if here.is_empty() {
                continue;
            }
            missed = missed.minus(&here)?;
            let actions = &tables.flow(*flow).actions;
            back.extend(self.act_all(actions, table, (here, view.clone()), depth)?);
        }
        if !missed.is_empty() {
            back.push((missed, view));
        }
        self.merged(back)
    }

    fn act_all(
        &mut self,
        actions: &[Action],
        table: u8,
        state: State,
        depth: usize,
    ) -> Result<Vec<State>, ProofError> {
        let mut states = vec![state];
        for action in actions {
            let mut next = Vec::new();
            for state in states {
                next.extend(self.act(action, table, state, depth)?);
            }
            states = self.merged(next)?;
        }
        Ok(states)
    }

    fn act(
        &mut self,
        action: &Action,
        table: u8,
        (region, mut view): State,
        depth: usize,
    ) -> Result<Vec<State>, ProofError> {
        match action {
            Action::Output(port) => self.output(*port, &region, &view),
            Action::OutputReg(part) => {
                // A number that is no port of OpenFlow 1.0 goes nowhere.
                if let Ok(port) = u16::try_from(view.constant(*part)?) {
                    self.output(PortNo::from_u16(port), &region, &view);
                }
            }
            Action::Resubmit { table: to, .. } => {
                return self.enter(to.unwrap_or(table), (region, view), depth + 1);
            }
            Action::SetField { field, value, mask } => view.write(*field, *value, *mask)?,
            Action::Load { dst, value } => {
                let shift = dst.offset.min(127);
                let mask = 1u128.checked_shl(u32::from(dst.bits)).map_or(u128::MAX, |bit| bit - 1) << shift;
                view.write(dst.field, u128::from(*value) << shift, mask)?;
            }
            Action::Move { src, dst } => {
                let shift = dst.offset.min(127);
                let mask = 1u128.checked_shl(u32::from(dst.bits)).map_or(u128::MAX, |bit| bit - 1) << shift;
                let value = view.constant(*src)?;
                view.write(dst.field, value << shift, mask)?;
            }
            Action::PopVlan => view.pop_tag(),
            // The tag that is pushed is present, of VID 0 (ovs-actions(7), "push_vlan").
            Action::PushVlan(_) => view.set(Field::VlanTci, Source::Const(0x1000)),
            Action::CtClear => view.untrack(),
            Action::Ct(ct) => self.ct(ct, &region, &mut view, depth)?,
            Action::Clone(actions) => {
                _ = self.act_all(actions, table, (region.clone(), view.clone()), depth)?
            }
            // `Tables` lets a truncated output through where it does nothing.
            Action::Note(_) | Action::Conjunction { .. } | Action::OutputTrunc { .. } => {}
            _ => return Err(ProofError::Action),
        }
        Ok(vec![(region, view)])
    }

    /// "If the output port is also the input port, the switch does not send" (ovs-actions(7), "output").
    fn output(&mut self, port: PortNo, region: &Region, view: &View) {
        if view.get(Field::InPort) != Some(Source::Const(u128::from(port.0))) {
            self.leaves.push(Leaf { event: Event::Output(port), region: region.clone(), view: view.clone() });
        }
    }

    fn ct(&mut self, ct: &Ct, region: &Region, view: &mut View, depth: usize) -> Result<(), ProofError> {
        let zone = match ct.zone {
            CtZone::Imm(zone) => zone,
            CtZone::Field(part) => u16::try_from(view.constant(part)?).unwrap_or(u16::MAX),
        };
        let Some(tracker) = self.tracker else {
            let table = ct.table.filter(|_| !ct.commit).ok_or(ProofError::Action)?;
            let event = Event::Tracked { zone, table };
            self.leaves.push(Leaf { event, region: region.clone(), view: view.clone() });
            view.untrack();
            return Ok(());
        };
        let mut tracked = view.clone();
        tracker(zone, &mut tracked);
        if ct.commit {
            let mark = ct.exec.iter().find_map(|action| match action {
                Action::SetField { field: Field::CtMark, value, mask }
                    if *mask == Field::CtMark.full_mask() =>
                {
                    u32::try_from(*value).ok()
                }
                _ => None,
            });
            let mark = mark.ok_or(ProofError::Action)?;
            let event = Event::Commit { zone, mark };
            self.leaves.push(Leaf { event, region: region.clone(), view: view.clone() });
            tracked.set(Field::CtMark, Source::Const(u128::from(mark)));
        }
        // Outside the table that `ct` goes on in, the packet is untracked from now on (ovs-actions(7), "ct").
        view.untrack();
        if let Some(table) = ct.table {
            self.enter(table, (region.clone(), tracked), depth + 1)?;
        }
        Ok(())
    }

    /// States of the same view are one.
    fn merged(&self, states: Vec<State>) -> Result<Vec<State>, ProofError> {
        let mut merged: Vec<State> = Vec::new();
        for (region, view) in states {
            match merged.iter_mut().find(|(_, other)| *other == view) {
                Some((all, _)) => *all = all.or(&region)?,
                None => merged.push((region, view)),
            }
        }
        Ok(merged)
    }
}
