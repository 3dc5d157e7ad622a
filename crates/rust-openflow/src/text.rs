//! The text that ovs-ofctl 3.1 prints and reads (ovs-ofctl(8), "Flow Syntax"; ovs-fields(7); ovs-actions(7)).

mod action_parse;
mod action_print;
mod match_parse;
mod match_print;
mod scan;
mod value;

use std::fmt;
use std::str::FromStr;

use crate::action::{Action, Subfield};
use crate::error::ParseError;
use crate::flow::{Flow, FlowFlags, FlowKey, FlowOptions, FlowStats};
use crate::flow_match::Match;

use match_parse::MatchParser;
use scan::{Pair, Pairs};

pub(crate) use value::integer;

const FLAG_NAMES: [(FlowFlags, &str); 5] = [
    (FlowFlags::SEND_FLOW_REM, "send_flow_rem"),
    (FlowFlags::CHECK_OVERLAP, "check_overlap"),
    (FlowFlags::RESET_COUNTS, "reset_counts"),
    (FlowFlags::NO_PACKET_COUNTS, "no_packet_counts"),
    (FlowFlags::NO_BYTE_COUNTS, "no_byte_counts"),
];

/// The line of `ovs-ofctl --no-names --no-stats dump-flows`.
impl fmt::Display for Flow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cookie != 0 {
            write!(out, "cookie={:#x}, ", self.cookie)?;
        }
        if self.table != 0 {
            write!(out, "table={}, ", self.table)?;
        }
        if self.options.idle_timeout != 0 {
            write!(out, "idle_timeout={}, ", self.options.idle_timeout)?;
        }
        if self.options.hard_timeout != 0 {
            write!(out, "hard_timeout={}, ", self.options.hard_timeout)?;
        }
        for (flag, name) in FLAG_NAMES {
            if self.options.flags.contains(flag) {
                write!(out, "{name} ")?;
            }
        }
        if self.options.importance != 0 {
            write!(out, "importance={}, ", self.options.importance)?;
        }
        let rule = match_print::rule(self.priority, &self.matches);
        write!(out, "{rule}{}actions=", if rule.is_empty() { "" } else { " " })?;
        action_print::actions(out, &self.actions)
    }
}

/// Table, priority and match, as in a flow's line.
impl fmt::Display for FlowKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match_print::rule(self.priority, &self.matches);
        match (self.table, rule.is_empty()) {
            (0, _) => out.write_str(&rule),
            (table, true) => write!(out, "table={table}"),
            (table, false) => write!(out, "table={table}, {rule}"),
        }
    }
}

/// Reads what `add-flow` takes and what `dump-flows` prints, statistics included (they are dropped).
impl FromStr for Flow {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Flow::parse_with_stats(text).map(|(flow, _)| flow)
    }
}

impl Flow {
    /// As `FromStr`, with the statistics that stand in the text; what does not stand there is zero.
    pub fn parse_with_stats(text: &str) -> Result<(Flow, FlowStats), ParseError> {
        let (head, rest) =
            text.split_once("action").ok_or_else(|| ParseError::new("flow", text, "has no actions"))?;
        let (_, actions) =
            rest.split_once('=').ok_or_else(|| ParseError::new("flow", text, "has no '=' after actions"))?;
        let mut words = Words::default();
        words.read(head)?;
        let (key, rest) = words.finish()?;
        let flow = Flow {
            table: key.table,
            priority: key.priority,
            cookie: rest.cookie,
            matches: key.matches,
            actions: Action::parse_list(actions)?,
            options: rest.options,
        };
        Ok((flow, rest.stats))
    }
}

/// Reads table, priority and match, as `FlowKey` prints them.
impl FromStr for FlowKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = Words::default();
        words.read(text)?;
        words.finish().map(|(key, _)| key)
    }
}

/// Reads a match alone.
impl FromStr for Match {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut parser = MatchParser::default();
        for pair in Pairs::new(text) {
            let Pair { key, value } = pair?;
            if !parser.take(key, value)? {
                return Err(ParseError::new("match", key, "unknown field"));
            }
        }
        parser.finish()
    }
}

impl Action {
    /// Reads a list of actions; `drop` is the empty list.
    pub fn parse_list(text: &str) -> Result<Vec<Action>, ParseError> {
        action_parse::actions(text)
    }

    /// Prints a list of actions; the empty list is `drop`.
    #[must_use]
    pub fn print_list(actions: &[Action]) -> String {
        let mut text = String::new();
        action_print::actions(&mut text, actions).expect("a String takes everything");
        text
    }
}

/// Reads `NXM_NX_REG8[0..15]`, `reg8[3]`, `reg8`.
impl FromStr for Subfield {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        action_parse::subfield(text)
    }
}

/// The name of a packet-in reason (`OFPR_*`).
pub(crate) fn packet_reason(reason: u8) -> Option<&'static str> {
    action_print::REASONS.get(usize::from(reason)).copied()
}

/// What stands before the actions of a flow.
#[derive(Default)]
struct Words<'a> {
    matches: MatchParser<'a>,
    table: u8,
    priority: Option<u16>,
    rest: Rest,
}

/// What a flow's text says beside its key and actions.
#[derive(Default)]
struct Rest {
    cookie: u64,
    options: FlowOptions,
    stats: FlowStats,
}

impl<'a> Words<'a> {
    fn read(&mut self, text: &'a str) -> Result<(), ParseError> {
        for pair in Pairs::new(text) {
            let Pair { key, value } = pair?;
            if !self.word(key, value)? && !self.matches.take(key, value)? {
                return Err(ParseError::new("flow", key, "unknown keyword"));
            }
        }
        Ok(())
    }

    fn word(&mut self, key: &str, value: &str) -> Result<bool, ParseError> {
        let options = &mut self.rest.options;
        let stats = &mut self.rest.stats;
        match key {
            "table" => self.table = action_parse::table(value)?,
            "priority" => self.priority = Some(number(key, value)?),
            "cookie" => self.rest.cookie = number(key, value)?,
            "idle_timeout" => options.idle_timeout = number(key, value)?,
            "hard_timeout" => options.hard_timeout = number(key, value)?,
            "importance" => options.importance = number(key, value)?,
            "n_packets" => stats.packets = number(key, value)?,
            "n_bytes" => stats.bytes = number(key, value)?,
            "duration" => (stats.duration_s, stats.duration_ns) = duration(value)?,
            "idle_age" | "hard_age" => {}
            _ => {
                let Some((flag, _)) = FLAG_NAMES.iter().find(|(_, name)| *name == key) else {
                    return Ok(false);
                };
                options.flags = options.flags.with(*flag);
            }
        }
        Ok(true)
    }

    fn finish(self) -> Result<(FlowKey, Rest), ParseError> {
        let priority = self.priority.unwrap_or(Flow::DEFAULT_PRIORITY);
        Ok((FlowKey { table: self.table, priority, matches: self.matches.finish()? }, self.rest))
    }
}

fn number<T: TryFrom<u128>>(key: &str, text: &str) -> Result<T, ParseError> {
    let number = integer(text, 64).map_err(|reason| ParseError::new(key, text, reason))?;
    T::try_from(number).map_err(|_| ParseError::new(key, text, "is out of range"))
}

/// `12.345s` as seconds and nanoseconds.
fn duration(text: &str) -> Result<(u32, u32), ParseError> {
    let bad = || ParseError::new("duration", text, "not seconds");
    let digits = text.strip_suffix('s').ok_or_else(bad)?;
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let nanoseconds = format!("{fraction:0<9}");
    let whole = seconds.parse().map_err(|_| bad())?;
    Ok((whole, nanoseconds.get(..9).and_then(|digits| digits.parse().ok()).ok_or_else(bad)?))
}
