//! A packet's way through the tables.

use rust_openflow::{Action, Ct, CtZone, Field, PortNo, Subfield};

use crate::conntrack::{Conntrack, Stamp};
use crate::error::RunError;
use crate::lookup::find;
use crate::outcome::{Commit, Outcome, Output, Visit};
use crate::packet::{Packet, Tag};
use crate::tables::Tables;

/// Resubmits of one translation, that is between two passes through the tracker (ovs-actions(7), "Too many resubmits").
pub const MAX_RESUBMITS: usize = 4096;

/// How deep resubmits to the same or an earlier table may nest (ovs-actions(7), "Recursion too deep").
pub const MAX_DEPTH: usize = 64;

/// How often the userspace datapath looks a packet up again before it drops it (3.1).
pub const MAX_RECIRCULATIONS: usize = 6;

/// The table in which packets start.
const FIRST_TABLE: u8 = 0;

/// Follows a packet from table 0 to its end.
///
/// # Errors
/// The packet has no single result, or runs into a limit of the switch.
pub fn run<C: Conntrack>(tables: &Tables, packet: Packet, conntrack: &mut C) -> Result<Outcome, RunError> {
    run_from(tables, FIRST_TABLE, packet, conntrack)
}

/// Follows a packet from a table on, with the registers that it has.
///
/// # Errors
/// As [`run`].
pub fn run_from<C: Conntrack>(
    tables: &Tables,
    table: u8,
    packet: Packet,
    conntrack: &mut C,
) -> Result<Outcome, RunError> {
    run_across(|| tables, table, packet, conntrack)
}

/// Follows a packet from a table on while the tables change. Each translation, the first one and that after each pass
/// through the tracker, is by the tables that `choose` gives for it: those of the moment, or those that the datapath cached it
/// from. [`Visit::flow`] is then of those tables.
///
/// # Errors
/// As [`run`].
pub fn run_across<'t, C: Conntrack>(
    mut choose: impl FnMut() -> &'t Tables,
    table: u8,
    packet: Packet,
    conntrack: &mut C,
) -> Result<Outcome, RunError> {
    let mut run = Run {
        tables: choose(),
        choose,
        conntrack,
        packet,
        resubmits: 0,
        depth: 0,
        recirculations: 0,
        stack: Vec::new(),
        outcome: Outcome::default(),
    };
    run.look_up(table, Return::Translation(None))?;
    while let Some(cursor) = run.stack.last_mut() {
        let (actions, table) = (cursor.actions, cursor.table);
        match actions.get(cursor.next) {
            Some(action) => {
                cursor.next += 1;
                run.act(action, table)?;
            }
            None => _ = run.go_back(),
        }
    }
    Ok(run.outcome)
}

/// The state of a run. What is under way is kept in a stack of its own, since the switch's limits allow more nesting
/// than a thread's stack is sure to bear.
struct Run<'t, 'c, C, F> {
    /// Of the translation under way.
    tables: &'t Tables,
    choose: F,
    conntrack: &'c mut C,
    packet: Packet,
    resubmits: usize,
    depth: usize,
    recirculations: usize,
    stack: Vec<Cursor<'t>>,
    outcome: Outcome,
}

/// A list of actions, and how far it has been followed.
struct Cursor<'t> {
    actions: &'t [Action],
    next: usize,
    /// The table of the flow.
    table: u8,
    at_end: Return<'t>,
}

/// What becomes valid again at the end of a list of actions.
enum Return<'t> {
    /// A resubmit: whatever was done to the packet stays; whether it counted against the depth.
    Resubmit { deepened: bool },
    /// A clone: the packet is what it was before. If the datapath made it, also where conntrack kept the copy.
    Clone { packet: Box<Packet>, by_datapath: bool },
    /// The end of a translation; if its packet came from the tracker, the translation from which it went there goes on.
    Translation(Option<Box<Suspended<'t>>>),
}

/// A translation that goes on when the tracked copy of its packet has come to its end.
struct Suspended<'t> {
    tables: &'t Tables,
    packet: Packet,
    resubmits: usize,
    depth: usize,
}

impl<'t, C: Conntrack, F: FnMut() -> &'t Tables> Run<'t, '_, C, F> {
    fn act(&mut self, action: &'t Action, table: u8) -> Result<(), RunError> {
        match action {
            Action::Output(port) => self.output(*port),
            Action::OutputReg(field) => {
                // A number that is no port of OpenFlow 1.0 goes nowhere.
                if let Ok(port) = u16::try_from(self.read(*field)) {
                    self.output(PortNo::from_u16(port));
                }
            }
            Action::Controller(_) => self.output(PortNo::CONTROLLER),
            Action::Resubmit { table: to, .. } => self.resubmit(table, to.unwrap_or(table))?,
            Action::Goto(to) => self.resubmit(table, *to)?,
            Action::SetField { field, value, mask } => self.packet.set(*field, *value, *mask)?,
            Action::Load { dst, value } => self.write(*dst, u128::from(*value))?,
            Action::Move { src, dst } => self.write(*dst, self.read(*src))?,
            Action::PushVlan(tpid) => self.packet.push_tag(Tag::new(*tpid, 0)),
            Action::PopVlan => self.packet.pop_tag(),
            Action::CtClear => self.packet.clear_conntrack(),
            Action::Ct(ct) => self.ct(ct)?,
            Action::Clone(actions) => {
                let at_end = Return::Clone {
                    packet: Box::new(self.packet.clone()),
                    by_datapath: needs_a_copy(actions),
                };
                self.stack.push(Cursor { actions, next: 0, table, at_end });
            }
            // Notes and clauses do nothing, and `Tables` lets nothing else through.
            _ => {}
        }
        Ok(())
    }

    /// Looks the packet up and goes on with the actions of the flow that it finds.
    fn look_up(&mut self, table: u8, at_end: Return<'t>) -> Result<(), RunError> {
        let flow = find(self.tables, table, &self.packet)?;
        if let Some((id, fault)) = flow.and_then(|id| Some((id, self.tables.fault(id)?))) {
            return Err(RunError::Unfollowed { flow: self.tables.flow(id).to_string(), fault });
        }
        let (packet, recirculations) = (self.packet.clone(), self.recirculations);
        self.outcome.visits.push(Visit { table, flow, packet, recirculations });
        let actions = flow.map_or(&[][..], |id| &self.tables.flow(id).actions);
        self.stack.push(Cursor { actions, next: 0, table, at_end });
        Ok(())
    }

    /// "A resubmit from one table to a later one does not count against the depth limit" (ovs-actions(7)).
    fn resubmit(&mut self, from: u8, to: u8) -> Result<(), RunError> {
        let deepened = to <= from;
        if self.depth >= MAX_DEPTH {
            return Err(RunError::TooDeep);
        }
        if self.resubmits >= MAX_RESUBMITS {
            return Err(RunError::TooManyResubmits);
        }
        self.resubmits += 1;
        self.depth += usize::from(deepened);
        self.look_up(to, Return::Resubmit { deepened })
    }

    /// "If the output port is also the input port, the switch does not send" (ovs-actions(7), "output"), unless told to
    /// by the port's reserved name.
    fn output(&mut self, port: PortNo) {
        let in_port = PortNo(u32::try_from(self.packet.get(Field::InPort)).unwrap_or(PortNo::ANY.0));
        let port = match port {
            PortNo::IN_PORT => in_port,
            port if port == in_port => return,
            port => port,
        };
        self.outcome.outputs.push(Output { port, packet: self.packet.clone() });
    }

    fn ct(&mut self, ct: &'t Ct) -> Result<(), RunError> {
        let zone = match ct.zone {
            CtZone::Imm(zone) => zone,
            CtZone::Field(field) => u16::try_from(self.read(field)).unwrap_or(u16::MAX),
        };
        let stamp = ct.commit.then(|| stamp(&ct.exec));
        let Some(tracked) = self.conntrack.ct(zone, &self.packet, stamp.as_ref()) else {
            self.outcome.kept_in.push(zone);
            self.keep();
            return Ok(());
        };
        if let Some(stamp) = stamp {
            self.outcome.commits.push(Commit { zone, original: tracked.original, stamp });
        }
        // Outside the table that `ct` goes on in, the packet is untracked from now on (ovs-actions(7), "ct").
        let mut tracked_packet = self.packet.clone();
        tracked.write(zone, &mut tracked_packet);
        self.packet.clear_conntrack();
        let Some(table) = ct.table else { return Ok(()) };
        if self.recirculations >= MAX_RECIRCULATIONS {
            return Err(RunError::TooManyRecirculations);
        }
        self.recirculations += 1;
        let packet = std::mem::replace(&mut self.packet, tracked_packet);
        let tables = std::mem::replace(&mut self.tables, (self.choose)());
        let suspended = Suspended { tables, packet, resubmits: self.resubmits, depth: self.depth };
        (self.resubmits, self.depth) = (0, 0);
        self.look_up(table, Return::Translation(Some(Box::new(suspended))))
    }

    /// The datapath does nothing more with a packet that conntrack keeps, whatever the translation has in mind for it: that
    /// goes for the copy alone where the datapath made one.
    fn keep(&mut self) {
        loop {
            let innermost = self.stack.last().map(|cursor| &cursor.at_end);
            let is_copy = matches!(innermost, Some(Return::Clone { by_datapath: true, .. }));
            if self.go_back() || is_copy {
                return;
            }
        }
    }

    /// Leaves the innermost list of actions. True at the end of a translation.
    fn go_back(&mut self) -> bool {
        let Some(cursor) = self.stack.pop() else { return true };
        match cursor.at_end {
            Return::Resubmit { deepened } => self.depth -= usize::from(deepened),
            Return::Clone { packet, .. } => self.packet = *packet,
            Return::Translation(None) => return true,
            Return::Translation(Some(suspended)) => {
                (self.tables, self.packet) = (suspended.tables, suspended.packet);
                (self.resubmits, self.depth) = (suspended.resubmits, suspended.depth);
                self.recirculations -= 1;
                return true;
            }
        }
        false
    }

    fn read(&self, subfield: Subfield) -> u128 {
        self.packet.get(subfield.field) >> subfield.offset.min(127) & ones(subfield.bits)
    }

    fn write(&mut self, subfield: Subfield, value: u128) -> Result<(), RunError> {
        let shift = subfield.offset.min(127);
        let mask = ones(subfield.bits) << shift;
        Ok(self.packet.set(subfield.field, value << shift, mask)?)
    }
}

/// Whether ovs-vswitchd 3.1 makes the datapath copy the packet for a `clone` of these: it does where it cannot undo one of them
/// itself (ofproto/ofproto-dpif-xlate.c, `reversible_actions`), and looks into no `resubmit`.
fn needs_a_copy(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Ct(_) | Action::OutputTrunc { .. }))
}

/// What `exec` writes.
fn stamp(exec: &[Action]) -> Stamp {
    let mut stamp = Stamp::default();
    for action in exec {
        match action {
            Action::SetField { field: Field::CtMark, value, mask } => {
                // Both fit: the field has 32 bits.
                stamp.mark = u32::try_from(*value).ok().zip(u32::try_from(*mask).ok());
            }
            Action::SetField { field: Field::CtLabel, value, mask } => stamp.label = Some((*value, *mask)),
            _ => {}
        }
    }
    stamp
}

/// The lowest `bits` bits.
fn ones(bits: u16) -> u128 {
    1u128.checked_shl(u32::from(bits)).map_or(u128::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connections, Scripted};

    fn tables(flows: &[&str]) -> Tables {
        Tables::new(flows.iter().map(|flow| flow.parse().unwrap())).unwrap()
    }

    fn tcp() -> Packet {
        Packet::new(PortNo(1))
            .with(Field::EthType, 0x0800u16)
            .with(Field::Ipv4Src, 0x0a00_0001u32)
            .with(Field::Ipv4Dst, 0x0a00_0002u32)
            .with(Field::IpProto, 6u8)
            .with(Field::TcpSrc, 1000u16)
            .with(Field::TcpDst, 80u16)
            .with(Field::TcpFlags, 2u8)
    }

    fn ports(flows: &[&str]) -> Vec<u32> {
        let outcome = run(&tables(flows), tcp(), &mut Connections::default()).unwrap();
        outcome.ports().map(|port| port.0).collect()
    }

    #[test]
    fn a_resubmit_comes_back_and_what_it_wrote_stays() {
        let flows = [
            "table=0 actions=resubmit(,5),output:NXM_NX_REG0[]",
            "table=5 actions=set_field:7->reg0,output:5",
        ];
        assert_eq!(ports(&flows), [5, 7]);
    }

    #[test]
    fn a_clone_leaves_no_trace() {
        let flows = [
            "table=0 actions=set_field:3->reg0,clone(set_field:7->reg0,output:NXM_NX_REG0[]),output:NXM_NX_REG0[]",
        ];
        assert_eq!(ports(&flows), [7, 3]);
    }

    #[test]
    fn nothing_goes_back_where_it_came_from_unless_told() {
        assert_eq!(ports(&["table=0 actions=output:1,output:2,IN_PORT"]), [2, 1]);
    }

    #[test]
    fn tags_are_pushed_and_popped() {
        let flows = [
            "table=0 actions=set_field:10->reg6,push_vlan:0x8100,move:NXM_NX_REG6[0..11]->OXM_OF_VLAN_VID[0..11],output:2,pop_vlan,output:3",
        ];
        let outcome = run(&tables(&flows), tcp(), &mut Connections::default()).unwrap();
        assert_eq!(outcome.outputs[0].packet.tags(), [Tag::new(0x8100, 10)]);
        assert_eq!(outcome.outputs[1].packet.tags(), []);
        let without = tables(&["table=0 actions=set_field:10->vlan_vid"]);
        assert!(matches!(run(&without, tcp(), &mut Connections::default()), Err(RunError::NoTag(_))));
    }

    #[test]
    fn ct_forks_and_what_stays_behind_is_untracked() {
        let flows = [
            "table=0,priority=1,ip actions=ct(table=1,zone=5),resubmit(,2)",
            "table=1,priority=1,ct_state=+new+trk,ip actions=ct(commit,zone=5,exec(set_field:9->ct_mark)),resubmit(,2)",
            "table=1,priority=1,ct_state=-new+trk,ct_mark=9,ip actions=output:4",
            "table=2,priority=2,ct_state=+trk actions=output:2",
            "table=2,priority=1 actions=output:3",
        ];
        let (tables, mut connections) = (tables(&flows), Connections::default());
        let mut seen = || {
            let packet = tcp().with(Field::TcpFlags, 0x10u8);
            let outcome = run(&tables, packet, &mut connections).unwrap();
            (outcome.ports().map(|port| port.0).collect::<Vec<_>>(), outcome.commits.len())
        };
        assert_eq!(seen(), (vec![3, 3], 1));
        assert_eq!(seen(), (vec![4, 3], 0));
    }

    #[test]
    fn a_scripted_tracker_says_what_it_was_told() {
        let flows = [
            "table=0,priority=1,ip actions=ct(table=1)",
            "table=1,priority=1,ct_state=+est+trk,ip actions=ct(table=2)",
            "table=2,priority=1,ct_state=+new+trk,ct_nw_src=10.9.9.9,ip actions=output:2",
        ];
        let packet = tcp().with(Field::CtNwSrc, 0x0a09_0909u32);
        let outcome = run(&tables(&flows), packet, &mut Scripted::new([rust_openflow::CT_EST])).unwrap();
        assert_eq!(outcome.ports().collect::<Vec<_>>(), [PortNo(2)]);
    }

    #[test]
    fn the_limits_of_the_switch_are_kept() {
        let run_one = |flows: &[&str]| run(&tables(flows), tcp(), &mut Connections::default()).map(|_| ());
        assert_eq!(run_one(&["table=0 actions=resubmit(,0)"]), Err(RunError::TooDeep));
        let fan = "table=0 actions=".to_owned() + &["resubmit(,1)"; 64].join(",");
        let fan_out = "table=1 actions=".to_owned() + &["resubmit(,2)"; 64].join(",");
        assert_eq!(run_one(&[&fan, &fan_out]), Err(RunError::TooManyResubmits));
        let fan_out = "table=1 actions=".to_owned() + &["resubmit(,2)"; 63].join(",");
        assert_eq!(run_one(&[&fan, &fan_out]), Ok(()), "64 + 64 * 63 resubmits");
        assert_eq!(run_one(&["table=0,ip actions=ct(table=0)"]), Err(RunError::TooManyRecirculations));
    }
}
