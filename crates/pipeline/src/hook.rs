//! Where frames enter the firewall.

use rust_openflow::{Action, Flow, Match};

use crate::cookie::cookie;
use crate::flow::{flow, resubmit};
use crate::layout::{FlowKind, LAYOUT, classify, hook, transient};

/// Where frames enter the firewall. One flow stands there, and takes every frame.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Hook {
    /// In the first table: nobody else decides about frames on the bridge.
    #[default]
    Bridge,
    /// In the table where Neutron's agent lets go of frames: what it does to them before (VLANs, QoS, DVR, local IPs) is done by then.
    Transient,
}

impl Hook {
    /// The table that it stands in.
    pub const fn table(self) -> u8 {
        match self {
            Hook::Bridge => hook::TABLE,
            Hook::Transient => transient::TABLE,
        }
    }

    const fn priority(self) -> u16 {
        match self {
            Hook::Bridge => hook::ALL,
            Hook::Transient => transient::ALL,
        }
    }

    /// The flow.
    pub(crate) fn flow(self) -> Flow {
        let actions = vec![resubmit(classify::TABLE)];
        flow((FlowKind::Static, self.object()), self.table(), self.priority(), Match::new(), actions)
    }

    /// Beside Neutron's agent no other flow of ours has its cookie: of a cookie that the agent does not know it deletes the flows of *all* tables, if it
    /// finds one in a table of its own (Neutron 22 to 24, `openflow/native/ofswitch.py`: `_dump_and_clean`).
    const fn object(self) -> u64 {
        match self {
            Hook::Bridge => 0,
            Hook::Transient => transient::TABLE as u64,
        }
    }

    /// Neutron's agent removes at its start what has no cookie of its own from its tables, so its driver writes the same flow with one: that is
    /// the hook too, and as good as ours.
    pub fn adopt(self, held: &mut Flow) {
        if self == Hook::Transient && self.is(held) {
            held.cookie = cookie(FlowKind::Static, self.object());
        }
    }

    /// Whether this is the hook, whosever cookie it has.
    pub(crate) fn is(self, held: &Flow) -> bool {
        (held.table, held.priority) == (self.table(), self.priority())
            && held.matches == Match::new()
            && matches!(
                &held.actions[..],
                [Action::Resubmit { port: None, table: Some(classify::TABLE), ct: false }]
            )
    }

    /// Whether a flow stands where ours do, or before the hook.
    pub fn stands_among_ours(self, flow: &Flow) -> bool {
        match flow.table {
            table if table == self.table() => flow.priority >= self.priority(),
            hook::TABLE | transient::TABLE => false,
            table => LAYOUT.tables.iter().any(|ours| ours.id == table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_known_by_what_it_does_whosever_cookie_it_has() {
        let ours = Hook::Transient.flow();
        let mut held = ours.clone().with_cookie(0x1234);
        Hook::Transient.adopt(&mut held);
        assert_eq!(held, ours);
        let other = Flow::new(60, 65000, Match::new(), vec![resubmit(94)]).with_cookie(0x1234);
        let mut held = other.clone();
        Hook::Transient.adopt(&mut held);
        assert_eq!(held, other);
        let mut in_first_table = Hook::Bridge.flow().with_cookie(0x1234);
        Hook::Bridge.adopt(&mut in_first_table);
        assert_eq!(in_first_table.cookie, 0x1234, "there it is somebody else's");
    }

    #[test]
    fn what_neutron_has_before_its_last_table_does_not_concern_us() {
        let drop_dead_vlan = Flow::new(0, 65535, Match::new(), Vec::new());
        assert!(Hook::Bridge.stands_among_ours(&drop_dead_vlan));
        assert!(!Hook::Transient.stands_among_ours(&drop_dead_vlan));
        let normal = Flow::new(60, 1, Match::new(), Vec::new());
        assert!(!Hook::Transient.stands_among_ours(&normal) && !Hook::Bridge.stands_among_ours(&normal));
        assert!(Hook::Transient.stands_among_ours(&Flow::new(60, 65001, Match::new(), Vec::new())));
        assert!(Hook::Transient.stands_among_ours(&Flow::new(100, 0, Match::new(), Vec::new())));
    }
}
