//! Small questions to matches and actions.

use rust_openflow::{Action, Ct, Field, Match, PortNo};

/// The value of a field that is matched whole.
pub(super) fn whole(matches: &Match, field: Field) -> Option<u128> {
    matches.get(field).filter(|(_, mask)| *mask == field.full_mask()).map(|(value, _)| value)
}

/// As [`whole`], of a field of 16 bits or a number that fits them.
pub(super) fn small(matches: &Match, field: Field) -> Option<u16> {
    whole(matches, field).and_then(|number| u16::try_from(number).ok())
}

/// As [`whole`], of a field of 32 bits.
pub(super) fn number(matches: &Match, field: Field) -> Option<u32> {
    whole(matches, field).and_then(|number| u32::try_from(number).ok())
}

/// Every action of a list, those within `clone`, `ct(exec(…))` and `write_actions` too.
pub(super) fn all(actions: &[Action]) -> Vec<&Action> {
    let mut found = Vec::new();
    for action in actions {
        found.push(action);
        match action {
            Action::Clone(nested) | Action::WriteActions(nested) => found.extend(all(nested)),
            Action::Ct(ct) => found.extend(all(&ct.exec)),
            _ => {}
        }
    }
    found
}

/// What the last action that writes all of a field writes there.
pub(super) fn loads(actions: &[Action], wanted: Field) -> Option<u128> {
    loaded(actions, wanted).pop()
}

/// Every value that is written to all of a field.
pub(super) fn loaded(actions: &[Action], wanted: Field) -> Vec<u128> {
    let written = |action: &&Action| match action {
        Action::SetField { field, value, mask } if *field == wanted && *mask == wanted.full_mask() => {
            Some(*value)
        }
        _ => None,
    };
    all(actions).iter().filter_map(written).collect()
}

/// Ordinary ports that the actions output to.
pub(super) fn outputs(actions: &[Action]) -> Vec<u16> {
    let port = |action: &&Action| match action {
        Action::Output(PortNo(port)) => u16::try_from(*port).ok().filter(|port| *port < 0xff00),
        _ => None,
    };
    all(actions).iter().filter_map(port).collect()
}

/// The tables in which a packet goes on, in order.
pub(super) fn onwards(actions: &[Action]) -> Vec<u8> {
    let table = |action: &&Action| match action {
        Action::Resubmit { table, .. } | Action::Ct(Ct { table, .. }) => *table,
        Action::Goto(table) => Some(*table),
        _ => None,
    };
    all(actions).iter().filter_map(table).collect()
}

/// The conjunctions that a flow is a clause of: id, clause.
pub(super) fn clauses(actions: &[Action]) -> Vec<(u32, u8)> {
    let clause = |action: &Action| match action {
        Action::Conjunction { id, clause, .. } => Some((*id, *clause)),
        _ => None,
    };
    actions.iter().filter_map(clause).collect()
}

/// Whether the bits of `mask` are all matched, and are `value`.
pub(super) fn has_bits(matches: &Match, field: Field, value: u32, mask: u32) -> bool {
    matches.get(field).is_some_and(|(held, held_mask)| {
        held_mask & u128::from(mask) == u128::from(mask) && held & u128::from(mask) == u128::from(value)
    })
}
