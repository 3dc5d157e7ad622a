//! Reading of actions.

use crate::action::{Action, Controller, Ct, CtZone, Subfield};
use crate::error::ParseError;
use crate::field::{Field, ones};
use crate::port::PortNo;

use super::action_print::REASONS;
use super::scan::{Pair, Pairs};
use super::value::{self, integer};

/// Nesting that is believed; a switch gives up on less.
const MAX_DEPTH: usize = 32;

/// Reads a list of actions; `drop` is the empty list.
pub(super) fn actions(text: &str) -> Result<Vec<Action>, ParseError> {
    nested(text, 0)
}

fn nested(text: &str, depth: usize) -> Result<Vec<Action>, ParseError> {
    if depth > MAX_DEPTH {
        return Err(ParseError::new("actions", text, "nested too deep"));
    }
    let mut list = Vec::new();
    let mut drop = false;
    for pair in Pairs::new(text) {
        let pair = pair?;
        if pair.key.eq_ignore_ascii_case("drop") {
            drop = true;
        } else {
            action(&pair, depth, &mut list)?;
        }
    }
    if drop && !list.is_empty() {
        return Err(ParseError::new("drop", text, "must stand alone"));
    }
    Ok(list)
}

fn action(pair: &Pair<'_>, depth: usize, list: &mut Vec<Action>) -> Result<(), ParseError> {
    let value = pair.value;
    let key = pair.key.to_ascii_lowercase();
    let arguments = Arguments { what: &key, text: value };
    list.push(match key.as_str() {
        "output" => output(&arguments)?,
        "controller" => controller(&arguments)?,
        "enqueue" => return enqueue(&arguments, list),
        "resubmit" => resubmit(&arguments)?,
        "set_field" => set_field(&arguments)?,
        "load" => load(&arguments)?,
        "move" => {
            let (src, dst) = arguments.arrow()?;
            let (src, dst) = (subfield(src)?, subfield(dst)?);
            if src.bits != dst.bits {
                return Err(arguments.bad("source and destination differ in size"));
            }
            Action::Move { src, dst }
        }
        "push" => Action::Push(subfield(value)?),
        "pop" => Action::Pop(subfield(value)?),
        "ct" => Action::Ct(ct(&arguments, depth)?),
        "ct_clear" => Action::CtClear,
        "conjunction" => conjunction(&arguments)?,
        "note" => Action::note(value::parse_hex(value).map_err(|reason| arguments.bad(&reason))?),
        "clone" => Action::Clone(nested(value, depth + 1)?),
        "write_actions" => Action::WriteActions(nested(value, depth + 1)?),
        "clear_actions" => Action::ClearActions,
        "write_metadata" => {
            let (value, mask) = arguments.masked_u64()?;
            Action::WriteMetadata { value, mask }
        }
        "goto_table" => Action::Goto(table(value)?),
        "meter" => Action::Meter(arguments.u32()?),
        "group" => Action::Group(arguments.u32()?),
        "check_pkt_larger" => check_pkt_larger(&arguments)?,
        "action" | "instruction" => raw(&arguments, key == "instruction")?,
        _ => simple(pair.key, &key, &arguments)?,
    });
    Ok(())
}

fn simple(original: &str, key: &str, arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    Ok(match key {
        "push_vlan" => match arguments.u16()? {
            kind @ (0x8100 | 0x88a8) => Action::PushVlan(kind),
            _ => return Err(arguments.bad("is no VLAN ethertype (0x8100, 0x88a8)")),
        },
        "pop_vlan" | "strip_vlan" => Action::PopVlan,
        "set_vlan_vid" => Action::SetVlanVid(arguments.u16()?),
        "set_vlan_pcp" => Action::SetVlanPcp(arguments.u8()?),
        "push_mpls" => Action::PushMpls(arguments.u16()?),
        "pop_mpls" => Action::PopMpls(arguments.u16()?),
        "dec_ttl" if arguments.text.is_empty() => Action::DecTtl,
        "dec_mpls_ttl" => Action::DecMplsTtl,
        "set_queue" => Action::SetQueue(arguments.u32()?),
        "pop_queue" => Action::PopQueue,
        "exit" => Action::Exit,
        // A port alone is an output to it.
        _ => match PortNo::parse(original) {
            Ok(port) => Action::Output(port),
            Err(_) => return Err(ParseError::new("action", original, "unknown action")),
        },
    })
}

/// An action's name and what stands behind it.
struct Arguments<'a> {
    what: &'a str,
    text: &'a str,
}

impl<'a> Arguments<'a> {
    fn bad(&self, reason: &str) -> ParseError {
        ParseError::new(self.what, self.text, reason)
    }

    fn number<T: TryFrom<u128>>(&self, text: &str, bits: u16) -> Result<T, ParseError> {
        let number = integer(text, bits).map_err(|reason| self.bad(&reason))?;
        T::try_from(number).map_err(|_| self.bad("is out of range"))
    }

    fn u8(&self) -> Result<u8, ParseError> {
        self.number(self.text, 8)
    }

    fn u16(&self) -> Result<u16, ParseError> {
        self.number(self.text, 16)
    }

    fn u32(&self) -> Result<u32, ParseError> {
        self.number(self.text, 32)
    }

    fn masked_u64(&self) -> Result<(u64, u64), ParseError> {
        match self.text.split_once('/') {
            None => Ok((self.number(self.text, 64)?, u64::MAX)),
            Some((value, mask)) => Ok((self.number(value, 64)?, self.number(mask, 64)?)),
        }
    }

    /// The halves of `a->b`.
    fn arrow(&self) -> Result<(&'a str, &'a str), ParseError> {
        self.text.split_once("->").ok_or_else(|| self.bad("'->' is missing"))
    }
}

/// Reads `NXM_NX_REG0[]`, `reg0[3]`, `reg0[0..15]`, `reg0`.
pub(super) fn subfield(text: &str) -> Result<Subfield, ParseError> {
    let bad = |reason: &str| ParseError::new("subfield", text, reason);
    let (name, range) = match text.split_once('[') {
        None => (text, ""),
        Some((name, range)) => (name, range.strip_suffix(']').ok_or_else(|| bad("']' is missing"))?),
    };
    let field = match name {
        // Actions reach the 16-bit form only.
        "in_port" => Field::InPortNxm,
        _ => Field::from_name(name).ok_or_else(|| bad("unknown field"))?,
    };
    let number = |text: &str| text.parse::<u16>().map_err(|_| bad("is no range of bits"));
    let (first, last) = match range.split_once("..") {
        _ if range.is_empty() => return Ok(Subfield::whole(field)),
        None => (number(range)?, number(range)?),
        Some((first, last)) => (number(first)?, number(last)?),
    };
    if first > last || last >= field.subfield_bits() {
        return Err(bad(&format!("the field has bits 0..{}", field.subfield_bits() - 1)));
    }
    Ok(Subfield { field, offset: first, bits: last - first + 1 })
}

/// A table's number; 255 stands for all or none, and is no table.
pub(super) fn table(text: &str) -> Result<u8, ParseError> {
    let number = integer(text, 8).map_err(|reason| ParseError::new("table", text, reason))?;
    u8::try_from(number)
        .ok()
        .filter(|table| *table < 255)
        .ok_or_else(|| ParseError::new("table", text, "tables are 0 to 254"))
}

fn port(text: &str) -> Result<PortNo, ParseError> {
    PortNo::parse(text)
}

fn output(arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    let text = arguments.text;
    if !(text.contains("port") && text.contains("max_len")) {
        return match port(text) {
            Ok(port) => Ok(Action::Output(port)),
            Err(_) => {
                subfield(text).map(Action::OutputReg).map_err(|_| arguments.bad("neither a port nor a field"))
            }
        };
    }
    let (mut to, mut max_len) = (None, None);
    for pair in Pairs::new(text) {
        let pair = pair?;
        match pair.key {
            "port" => to = Some(port(pair.value)?),
            "max_len" => max_len = Some(arguments.number(pair.value, 32)?),
            _ => return Err(arguments.bad("takes port and max_len")),
        }
    }
    match (to, max_len) {
        (Some(port), Some(max_len)) => Ok(Action::OutputTrunc { port, max_len }),
        _ => Err(arguments.bad("needs port and max_len")),
    }
}

fn controller(arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    let text = arguments.text;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let max_len = if text.is_empty() { u16::MAX } else { arguments.u16()? };
        return Ok(to_controller(max_len));
    }
    let mut action = Controller::default();
    for pair in Pairs::new(text) {
        let Pair { key, value } = pair?;
        match key {
            "reason" => {
                let reason =
                    REASONS.iter().position(|name| *name == value).and_then(|at| u8::try_from(at).ok());
                action.reason = reason.ok_or_else(|| arguments.bad("unknown reason"))?;
            }
            "max_len" => action.max_len = arguments.number(value, 16)?,
            "id" => action.id = arguments.number(value, 16)?,
            "userdata" => {
                action.userdata = value::parse_hex(value).map_err(|reason| arguments.bad(&reason))?
            }
            "pause" => action.pause = true,
            "meter_id" => action.meter = Some(arguments.number(value, 32)?),
            _ => return Err(arguments.bad(&format!("unknown key '{key}'"))),
        }
    }
    // What the standard action can say, ovs-ofctl says with it.
    if action == (Controller { max_len: action.max_len, ..Controller::default() }) {
        return Ok(to_controller(action.max_len));
    }
    Ok(Action::Controller(action))
}

fn to_controller(max_len: u16) -> Action {
    match max_len {
        u16::MAX => Action::Output(PortNo::CONTROLLER),
        max_len => Action::OutputMaxLen { port: PortNo::CONTROLLER, max_len },
    }
}

/// `enqueue:port:queue`, which OpenFlow 1.1 and later say in three actions.
fn enqueue(arguments: &Arguments<'_>, list: &mut Vec<Action>) -> Result<(), ParseError> {
    let (to, queue) =
        arguments.text.split_once([':', ',', 'q']).ok_or_else(|| arguments.bad("needs port and queue"))?;
    let to = port(to)?;
    list.extend([Action::SetQueue(arguments.number(queue, 32)?), Action::Output(to), Action::PopQueue]);
    Ok(())
}

fn resubmit(arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    let mut parts = arguments.text.split(',').map(str::trim);
    let to = match parts.next() {
        None | Some("") => None,
        Some(text) => Some(port(text)?).filter(|port| *port != PortNo::IN_PORT),
    };
    let into = match parts.next() {
        None | Some("" | "255") => None,
        Some(text) => Some(table(text)?),
    };
    let ct = match parts.next() {
        None | Some("") => false,
        Some("ct") => true,
        Some(_) => return Err(arguments.bad("the third argument can only be ct")),
    };
    if to.is_none() && into.is_none() {
        return Err(arguments.bad("needs a port or a table"));
    }
    Ok(Action::Resubmit { port: to, table: into, ct })
}

fn set_field(arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    let (text, name) = arguments.arrow()?;
    let field = match name {
        "in_port" => Some(Field::InPortNxm),
        _ => Field::from_name(name),
    };
    let field = field.ok_or_else(|| arguments.bad("unknown field"))?;
    let (value, mask) = value::parse(field, text)?.ok_or_else(|| arguments.bad("needs a value"))?;
    let mask = mask & field.full_mask();
    if value > ones(field.bits()) {
        return Err(arguments.bad("the value does not fit the field"));
    }
    Ok(Action::SetField { field, value: value & mask, mask })
}

fn load(arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    let (text, dst) = arguments.arrow()?;
    let dst = subfield(dst)?;
    let wide = integer(text, dst.bits).map_err(|reason| arguments.bad(&reason))?;
    match u64::try_from(wide) {
        Ok(value) if dst.bits <= 64 => Ok(Action::Load { dst, value }),
        // More than 64 bits take several loads; the switch prints them as one set_field.
        _ => Ok(Action::SetField {
            field: dst.field,
            value: wide << dst.offset,
            mask: ones(dst.bits) << dst.offset,
        }),
    }
}

fn ct(arguments: &Arguments<'_>, depth: usize) -> Result<Ct, ParseError> {
    let mut ct = Ct::default();
    for pair in Pairs::new(arguments.text) {
        let Pair { key, value } = pair?;
        match key {
            "commit" => ct.commit = true,
            "force" => ct.force = true,
            "table" => ct.table = Some(table(value)?),
            "zone" => {
                ct.zone = match integer(value, 16).ok().and_then(|zone| u16::try_from(zone).ok()) {
                    Some(zone) => CtZone::Imm(zone),
                    None => CtZone::Field(subfield(value)?),
                }
            }
            "alg" => {
                ct.alg = match value {
                    "ftp" => 21,
                    "tftp" => 69,
                    other => arguments.number(other, 16)?,
                }
            }
            "exec" => ct.exec.extend(nested(value, depth + 1)?),
            _ => return Err(arguments.bad(&format!("unknown key '{key}'"))),
        }
    }
    if ct.force && !ct.commit {
        return Err(arguments.bad("force needs commit"));
    }
    Ok(ct)
}

fn conjunction(arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    let usage = || arguments.bad("not of the form id,clause/clauses");
    let (id, rest) = arguments.text.split_once(',').ok_or_else(usage)?;
    let (clause, n_clauses) = rest.split_once('/').ok_or_else(usage)?;
    let id = arguments.number(id.trim(), 32)?;
    let (clause, n_clauses) = (arguments.number(clause.trim(), 8)?, arguments.number(n_clauses.trim(), 8)?);
    if !(2..=64).contains(&n_clauses) || !(1..=n_clauses).contains(&clause) {
        return Err(arguments.bad("needs 2 to 64 clauses, and a clause among them"));
    }
    Ok(Action::Conjunction { id, clause, n_clauses })
}

fn check_pkt_larger(arguments: &Arguments<'_>) -> Result<Action, ParseError> {
    let (length, dst) = arguments.text.split_once(")->").ok_or_else(|| arguments.bad("')->' is missing"))?;
    let dst = subfield(dst)?;
    // The action has room for the bit's place alone (ovs-actions(7), "check_pkt_larger").
    if dst.bits != 1 {
        return Err(arguments.bad("the destination is not one bit"));
    }
    Ok(Action::CheckPktLarger { pkt_len: arguments.number(length, 16)?, dst })
}

/// `action(0x…)` and `instruction(0x…)`, as this crate prints what it does not know.
fn raw(arguments: &Arguments<'_>, instruction: bool) -> Result<Action, ParseError> {
    let bytes = value::parse_hex(arguments.text).map_err(|reason| arguments.bad(&reason))?;
    let decoded = if instruction { Action::decode_instructions(&bytes) } else { Action::decode_list(&bytes) };
    let mut list = decoded.map_err(|error| arguments.bad(&error.to_string()))?;
    match list.pop() {
        Some(action) if list.is_empty() => Ok(action),
        _ => Err(arguments.bad("not one action")),
    }
}
