//! Printing of actions.

use std::fmt::{self, Write};

use crate::action::{Action, Controller, Ct, CtZone, RawAction, Subfield, note_length};
use crate::field::Field;
use crate::port::PortNo;

use super::value::{self, AltHex};

/// Actions with commas between them; none is `drop`.
pub(super) fn actions(out: &mut impl Write, actions: &[Action]) -> fmt::Result {
    if actions.is_empty() {
        return out.write_str("drop");
    }
    for (index, action) in actions.iter().enumerate() {
        if index > 0 {
            out.write_char(',')?;
        }
        write!(out, "{action}")?;
    }
    Ok(())
}

/// The action as ovs-ofctl prints it.
impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Output(port) => output(out, *port),
            Action::OutputMaxLen { port: PortNo::CONTROLLER, max_len } => write!(out, "CONTROLLER:{max_len}"),
            Action::OutputMaxLen { port, .. } => output(out, *port),
            Action::OutputReg(src) => write!(out, "output:{src}"),
            Action::OutputTrunc { port, max_len } => write!(out, "output(port={port},max_len={max_len})"),
            Action::Group(group) => write!(out, "group:{group}"),
            Action::Controller(controller) => print_controller(out, controller),
            Action::Resubmit { port, table, ct } => resubmit(out, *port, *table, *ct),
            Action::SetField { field, value, mask } => set_field(out, *field, *value, *mask),
            Action::Load { dst, value } => write!(out, "load:{}->{dst}", AltHex(u128::from(*value))),
            Action::Move { src, dst } => write!(out, "move:{src}->{dst}"),
            Action::Push(subfield) => write!(out, "push:{subfield}"),
            Action::Pop(subfield) => write!(out, "pop:{subfield}"),
            Action::Ct(ct) => print_ct(out, ct),
            Action::CtClear => out.write_str("ct_clear"),
            Action::Conjunction { id, clause, n_clauses } => {
                write!(out, "conjunction({id},{clause}/{n_clauses})")
            }
            Action::Note(bytes) => {
                let mut padded = bytes.clone();
                padded.resize(note_length(bytes.len()), 0);
                out.write_str("note:")?;
                dotted_hex(out, &padded)
            }
            Action::Clone(nested) => nest(out, "clone", nested),
            Action::Meter(meter) => write!(out, "meter:{meter}"),
            Action::ClearActions => out.write_str("clear_actions"),
            Action::WriteActions(nested) => nest(out, "write_actions", nested),
            Action::WriteMetadata { value, mask: u64::MAX } => {
                write!(out, "write_metadata:{}", AltHex(u128::from(*value)))
            }
            Action::WriteMetadata { value, mask } => {
                write!(out, "write_metadata:{}/{}", AltHex(u128::from(*value)), AltHex(u128::from(*mask)))
            }
            Action::Goto(table) => write!(out, "goto_table:{table}"),
            Action::Unknown(raw) => unknown(out, "action", raw),
            Action::UnknownInstruction(raw) => unknown(out, "instruction", raw),
            simple => print_simple(out, simple),
        }
    }
}

fn print_simple(out: &mut impl Write, action: &Action) -> fmt::Result {
    match action {
        Action::PushVlan(kind) => write!(out, "push_vlan:{kind:#x}"),
        Action::PopVlan => out.write_str("pop_vlan"),
        Action::SetVlanVid(vid) => write!(out, "set_vlan_vid:{vid}"),
        Action::SetVlanPcp(pcp) => write!(out, "set_vlan_pcp:{pcp}"),
        Action::PushMpls(kind) => write!(out, "push_mpls:{kind:#06x}"),
        Action::PopMpls(kind) => write!(out, "pop_mpls:{kind:#06x}"),
        Action::DecTtl => out.write_str("dec_ttl"),
        Action::DecMplsTtl => out.write_str("dec_mpls_ttl"),
        Action::SetQueue(queue) => write!(out, "set_queue:{queue}"),
        Action::PopQueue => out.write_str("pop_queue"),
        Action::Exit => out.write_str("exit"),
        Action::CheckPktLarger { pkt_len, dst } => write!(out, "check_pkt_larger({pkt_len})->{dst}"),
        _ => Ok(()),
    }
}

impl fmt::Display for Subfield {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.field.subfield_name())?;
        let last = u32::from(self.offset) + u32::from(self.bits).saturating_sub(1);
        match self.bits {
            _ if *self == Subfield::whole(self.field) => out.write_str("[]"),
            1 => write!(out, "[{}]", self.offset),
            _ => write!(out, "[{}..{last}]", self.offset),
        }
    }
}

fn output(out: &mut impl Write, port: PortNo) -> fmt::Result {
    match port {
        PortNo::CONTROLLER => out.write_str("CONTROLLER:65535"),
        PortNo(number) if number < PortNo::MAX.0 => write!(out, "output:{number}"),
        reserved => write!(out, "{reserved}"),
    }
}

fn resubmit(out: &mut impl Write, port: Option<PortNo>, table: Option<u8>, ct: bool) -> fmt::Result {
    let port = port.filter(|port| *port != PortNo::IN_PORT);
    if let (Some(port), None) = (port, table) {
        return write!(out, "resubmit:{port}");
    }
    out.write_str("resubmit(")?;
    if let Some(port) = port {
        write!(out, "{port}")?;
    }
    out.write_char(',')?;
    if let Some(table) = table {
        write!(out, "{table}")?;
    }
    out.write_str(if ct { ",ct)" } else { ")" })
}

fn set_field(out: &mut impl Write, field: Field, value: u128, mask: u128) -> fmt::Result {
    out.write_str("set_field:")?;
    value::masked(out, field, value, mask)?;
    // Both sizes of the ingress port go by one name in matches, but not here.
    let name = if field == Field::InPort { "in_port_oxm" } else { field.name() };
    write!(out, "->{name}")
}

fn nest(out: &mut impl Write, name: &str, nested: &[Action]) -> fmt::Result {
    write!(out, "{name}(")?;
    actions(out, nested)?;
    out.write_char(')')
}

fn print_ct(out: &mut impl Write, ct: &Ct) -> fmt::Result {
    let mut parts = Vec::new();
    if ct.commit {
        parts.push("commit".to_owned());
    }
    if ct.force {
        parts.push("force".to_owned());
    }
    if let Some(table) = ct.table {
        parts.push(format!("table={table}"));
    }
    match ct.zone {
        CtZone::Imm(0) => {}
        CtZone::Imm(zone) => parts.push(format!("zone={zone}")),
        CtZone::Field(subfield) => parts.push(format!("zone={subfield}")),
    }
    if !ct.exec.is_empty() {
        let mut text = String::from("exec(");
        actions(&mut text, &ct.exec)?;
        parts.push(text + ")");
    }
    match ct.alg {
        0 => {}
        21 => parts.push("alg=ftp".to_owned()),
        69 => parts.push("alg=tftp".to_owned()),
        alg => parts.push(format!("alg={alg}")),
    }
    write!(out, "ct({})", parts.join(","))
}

/// Names of `OFPR_*` packet-in reasons (OpenFlow 1.4 §7.4.1, and Open vSwitch's own), by number.
pub(super) const REASONS: [&str; 6] =
    ["no_match", "action", "invalid_ttl", "action_set", "group", "packet_out"];

fn print_controller(out: &mut impl Write, controller: &Controller) -> fmt::Result {
    let Controller { max_len, id, reason, userdata, meter, pause } = controller;
    let plain = *id == 0 && userdata.is_empty() && !pause && meter.is_none();
    if plain && *reason == Controller::REASON_ACTION {
        return write!(out, "CONTROLLER:{max_len}");
    }
    let mut parts = Vec::new();
    if *reason != Controller::REASON_ACTION {
        let name =
            REASONS.get(usize::from(*reason)).map_or_else(|| reason.to_string(), |name| (*name).to_owned());
        parts.push(format!("reason={name}"));
    }
    if *max_len != u16::MAX {
        parts.push(format!("max_len={max_len}"));
    }
    if *id != 0 {
        parts.push(format!("id={id}"));
    }
    if !userdata.is_empty() {
        let mut text = String::from("userdata=");
        dotted_hex(&mut text, userdata)?;
        parts.push(text);
    }
    if *pause {
        parts.push("pause".to_owned());
    }
    if let Some(meter) = meter {
        parts.push(format!("meter_id={meter}"));
    }
    write!(out, "controller({})", parts.join(","))
}

/// Bytes as `01.ab.00`.
fn dotted_hex(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        write!(out, "{}{byte:02x}", if index > 0 { "." } else { "" })?;
    }
    Ok(())
}

/// Bytes as `0x01ab00`.
pub(super) fn hex(out: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    out.write_str("0x")?;
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// An action that this crate does not know, as `action(0x…)`, which ovs-ofctl does not read.
fn unknown(out: &mut impl Write, what: &str, raw: &RawAction) -> fmt::Result {
    write!(out, "{what}(")?;
    hex(out, raw.as_bytes())?;
    out.write_char(')')
}
