//! The text that ovs-ofctl 3.1 prints and reads (ovs-ofctl(8), "Flow Syntax"; ovs-fields(7); ovs-actions(7)).

mod action_print;
mod match_print;
mod value;

use std::fmt;

use crate::flow::{Flow, FlowFlags, FlowKey};

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
