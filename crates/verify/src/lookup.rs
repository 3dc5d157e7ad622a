//! The flow that a packet finds in a table.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::RunError;
use crate::packet::Packet;
use crate::tables::{Entry, FlowId, Tables};

/// `conj_id` of a packet outside the second look-up of a conjunctive match.
const NO_CONJUNCTION: u32 = 0;

/// Finds the packet's flow in a table: the highest priority wins; at one priority a flow of its own wins over a
/// complete conjunction; a complete conjunction finds what a second look-up finds, with `conj_id` and without
/// conjunctions, and if that finds nothing the search goes on below (ovs-fields(7), "Conjunctive Match Fields"; that
/// a flow of its own wins over a conjunction was seen in 3.1).
///
/// # Errors
/// [`RunError::Ambiguous`].
pub(crate) fn find(tables: &Tables, table: u8, packet: &Packet) -> Result<Option<FlowId>, RunError> {
    let matching = matching(tables, table, packet, NO_CONJUNCTION);
    for level in matching.chunk_by(|a, b| a.priority == b.priority) {
        if let Some(found) = of_its_own(tables, table, level)? {
            return Ok(Some(found));
        }
        if let Some(found) = by_conjunction(tables, table, packet, level)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The entries that match, the highest priority first.
fn matching<'t>(tables: &'t Tables, table: u8, packet: &Packet, conjunction: u32) -> Vec<&'t Entry> {
    tables.entries(table).iter().filter(|entry| entry.holds(packet, conjunction)).collect()
}

/// The flow of its own among entries of one priority.
fn of_its_own(tables: &Tables, table: u8, level: &[&Entry]) -> Result<Option<FlowId>, RunError> {
    let own = level.iter().filter(|entry| entry.clauses.is_empty()).map(|entry| Some(entry.flow));
    one_of(tables, table, own.collect())
}

/// What the complete conjunctions among entries of one priority lead to.
fn by_conjunction(
    tables: &Tables,
    table: u8,
    packet: &Packet,
    level: &[&Entry],
) -> Result<Option<FlowId>, RunError> {
    let mut seen: BTreeMap<u32, (u8, BTreeSet<u8>)> = BTreeMap::new();
    for clause in level.iter().flat_map(|entry| &entry.clauses) {
        let (_, clauses) = seen.entry(clause.conjunction).or_insert_with(|| (clause.of, BTreeSet::new()));
        clauses.insert(clause.number);
    }
    let complete = seen.into_iter().filter(|(_, (of, clauses))| clauses.len() == usize::from(*of));
    let mut found = Vec::new();
    for (conjunction, _) in complete {
        let entries = matching(tables, table, packet, conjunction);
        let entries: Vec<&Entry> = entries.into_iter().filter(|entry| entry.clauses.is_empty()).collect();
        let highest = entries.chunk_by(|a, b| a.priority == b.priority).next().unwrap_or_default();
        found.push(of_its_own(tables, table, highest)?);
    }
    one_of(tables, table, found)
}

/// Any of the results that are possible, if they do the same.
fn one_of(tables: &Tables, table: u8, possible: Vec<Option<FlowId>>) -> Result<Option<FlowId>, RunError> {
    let Some((first, others)) = possible.split_first() else { return Ok(None) };
    let actions = |id: &Option<FlowId>| id.map(|id| &tables.flow(id).actions);
    if others.iter().all(|other| actions(other) == actions(first)) {
        return Ok(*first);
    }
    let flows = possible.iter().map(|id| id.map_or("none".to_owned(), |id| tables.flow(id).to_string()));
    Err(RunError::Ambiguous { table, flows: flows.collect() })
}

#[cfg(test)]
mod tests {
    use rust_openflow::{Field, PortNo};

    use super::*;

    /// The flow that a TCP packet with these ports finds, by its first action.
    #[track_caller]
    fn check(flows: &[&str], ports: (u16, u16), expected: Result<Option<&str>, ()>) {
        let tables = Tables::new(flows.iter().map(|flow| flow.parse().unwrap())).unwrap();
        let packet = Packet::new(PortNo(1))
            .with(Field::EthType, 0x0800u16)
            .with(Field::IpProto, 6u8)
            .with(Field::TcpSrc, ports.0)
            .with(Field::TcpDst, ports.1);
        let found = find(&tables, 0, &packet).map(|id| {
            id.map(|id| {
                let text = tables.flow(id).to_string();
                text.split_once("actions=").unwrap().1.to_owned()
            })
        });
        assert_eq!(found.as_ref().map(Option::as_deref).map_err(|_| ()), expected);
    }

    #[test]
    fn the_highest_priority_wins() {
        let flows = ["priority=2,tcp actions=output:2", "priority=3,tcp,tp_dst=80 actions=output:3"];
        check(&flows, (1, 80), Ok(Some("output:3")));
        check(&flows, (1, 81), Ok(Some("output:2")));
        check(&["priority=2,udp actions=output:2"], (1, 80), Ok(None));
    }

    /// The shape of the example in ovs-fields(7).
    const CONJUNCTION: [&str; 6] = [
        "priority=5,tcp,tp_src=1 actions=conjunction(7,1/2)",
        "priority=5,tcp,tp_src=2 actions=conjunction(7,1/2)",
        "priority=5,tcp,tp_dst=1 actions=conjunction(7,2/2)",
        "priority=5,tcp,tp_dst=3 actions=conjunction(7,2/2)",
        "priority=5,conj_id=7 actions=output:7",
        "priority=0 actions=output:9",
    ];

    fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [CONJUNCTION.as_slice(), more].concat()
    }

    #[test]
    fn a_conjunction_needs_every_clause() {
        check(&CONJUNCTION, (1, 3), Ok(Some("output:7")));
        check(&CONJUNCTION, (2, 1), Ok(Some("output:7")));
        check(&CONJUNCTION, (3, 1), Ok(Some("output:9")));
        check(&CONJUNCTION, (1, 2), Ok(Some("output:9")));
    }

    #[test]
    fn a_flow_of_its_own_wins_at_the_same_priority() {
        check(&with(&["priority=5,tcp actions=output:5"]), (1, 1), Ok(Some("output:5")));
        check(&with(&["priority=4,tcp actions=output:4"]), (1, 1), Ok(Some("output:7")));
        check(&with(&["priority=6,tcp actions=output:6"]), (1, 1), Ok(Some("output:6")));
        check(&with(&["priority=4,tcp actions=output:4"]), (1, 2), Ok(Some("output:4")));
    }

    #[test]
    fn the_second_look_up_finds_whatever_matches() {
        let without_last: Vec<&str> = CONJUNCTION[..4].to_vec();
        check(&without_last, (1, 1), Ok(None));
        let lower = [&CONJUNCTION[..4], &["priority=1,tcp actions=output:1"]].concat();
        check(&lower, (1, 1), Ok(Some("output:1")));
    }

    #[test]
    fn clauses_of_different_priority_never_meet() {
        let flows = with(&[
            "priority=6,tcp,tp_src=4 actions=conjunction(8,1/2)",
            "priority=5,conj_id=8 actions=output:8",
        ]);
        check(&with(&[]), (4, 1), Ok(Some("output:9")));
        check(&flows, (4, 1), Ok(Some("output:9")));
    }

    #[test]
    fn what_has_no_single_result_is_an_error() {
        let overlapping =
            ["priority=5,tcp,tp_src=1 actions=output:1", "priority=5,tcp,tp_dst=1 actions=output:2"];
        check(&overlapping, (1, 1), Err(()));
        check(&overlapping, (1, 2), Ok(Some("output:1")));
        let second = [
            "priority=5,tcp,tp_src=0/0xfff0 actions=conjunction(8,1/2)",
            "priority=5,tcp,tp_dst=0/0xfff0 actions=conjunction(8,2/2)",
        ];
        let different = with(&[second.as_slice(), &["priority=5,conj_id=8 actions=output:8"]].concat());
        check(&different, (1, 1), Err(()));
        check(&different, (3, 1), Ok(Some("output:8")));
        let alike = with(&[second.as_slice(), &["priority=5,conj_id=8 actions=output:7"]].concat());
        check(&alike, (1, 1), Ok(Some("output:7")));
        // The one whose conj_id flow is missing finds the flow below instead.
        check(&with(&second), (1, 1), Err(()));
    }
}
