//! One list of changes in other forms that come to the same.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::objects::{Change, Group, Object, PortSpec, State};

/// What is done between changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interruption {
    Nothing,
    Commit,
    /// A commit, and what is out of use goes.
    Sweep,
    /// A new renderer, which knows what the switch holds.
    Restart,
}

/// A list of changes with what is done after each, over and over again.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pub(crate) changes: Vec<Change>,
    pub(crate) interruptions: Vec<Interruption>,
}

pub(crate) fn interruptions() -> BoxedStrategy<Vec<Interruption>> {
    let interruption = prop_oneof![
        4 => Just(Interruption::Nothing),
        4 => Just(Interruption::Commit),
        1 => Just(Interruption::Sweep),
        2 => Just(Interruption::Restart),
    ];
    vec(interruption, 1..24).boxed()
}

/// The forms of a list that follows `before`; `keys` choose another order.
pub(crate) fn forms(
    before: &State,
    changes: &[Change],
    keys: &[u64],
    interruptions: &[Interruption],
) -> Vec<Form> {
    let form = |name, changes: Vec<Change>, interruptions: &[Interruption]| Form {
        name,
        changes,
        interruptions: interruptions.to_vec(),
    };
    let at_once = [Interruption::Nothing];
    vec![
        form("as it is", changes.to_vec(), interruptions),
        form("merged", changes.to_vec(), &at_once),
        form("in another order", reordered(changes, keys), interruptions),
        form("in another order, merged", reordered(changes, keys), &at_once),
        form("split", split(before, changes), &[Interruption::Commit]),
        form("split and interrupted", split(before, changes), interruptions),
        form("split, in another order", reordered(&split(before, changes), keys), interruptions),
        form("told twice, and stale things first", duplicated(before, changes), interruptions),
        form(
            "there, back, and there again",
            [&there_and_back(before, changes)[..], changes].concat(),
            interruptions,
        ),
    ]
}

/// Another order in which each object goes through the same: the changes of one object stay in their order.
fn reordered(changes: &[Change], keys: &[u64]) -> Vec<Change> {
    let key = |n: usize| keys[n % keys.len()].wrapping_mul(2 * n as u64 + 1);
    let mut by_key: Vec<(u64, usize)> = (0..changes.len()).map(|n| (key(n), n)).collect();
    by_key.sort_unstable();
    let mut waiting: BTreeMap<Object, Vec<Change>> = BTreeMap::new();
    for change in changes.iter().rev() {
        waiting.entry(change.object()).or_default().push(*change);
    }
    let next = |(_, n): (u64, usize)| waiting.get_mut(&changes[n].object()).and_then(Vec::pop);
    by_key.into_iter().filter_map(next).collect()
}

/// Each change told twice, and before it what its object was the last time but one, if there was such a time.
fn duplicated(before: &State, changes: &[Change]) -> Vec<Change> {
    let mut state = before.clone();
    let mut stale: BTreeMap<Object, Change> = BTreeMap::new();
    let mut told = Vec::new();
    for change in changes {
        told.extend(stale.get(&change.object()));
        told.extend([*change, *change]);
        stale.insert(change.object(), state.take(*change));
    }
    told
}

/// The changes, and each taken back, the last one first.
pub(crate) fn there_and_back(before: &State, changes: &[Change]) -> Vec<Change> {
    let mut state = before.clone();
    let mut back: Vec<Change> = changes.iter().map(|change| state.take(*change)).collect();
    back.reverse();
    [changes, &back].concat()
}

/// Each change in the smallest steps that there are: rule by rule, member by member, group by group.
fn split(before: &State, changes: &[Change]) -> Vec<Change> {
    let mut state = before.clone();
    let mut split = Vec::new();
    for change in changes {
        let from = state.of(change.object());
        split.extend(steps(from, *change));
        state.take(*change);
    }
    split
}

fn steps(from: Change, to: Change) -> Vec<Change> {
    let mut steps = match (from, to) {
        (Change::Group(n, from), Change::Group(_, to)) => {
            let new = Group { stateful: to.or(from).is_none_or(|group| group.stateful), rules: 0 };
            let (from, end) = (from.unwrap_or(new), to.unwrap_or(new));
            let of_rules = bits(from.rules, end.rules).map(|rules| Group { rules, ..from });
            of_rules.map(|group| Change::Group(n, Some(group))).collect()
        }
        (Change::AddressGroup(from), Change::AddressGroup(to)) => {
            let masks = bits(from.unwrap_or(0).into(), to.unwrap_or(0).into());
            masks.map(|mask| Change::AddressGroup(Some(low(mask)))).collect()
        }
        (Change::Port(n, from), Change::Port(_, end)) => {
            let bare = |port: PortSpec| PortSpec { groups: 0, pairs: 0, ..port };
            let Some(new) = end.or(from).map(bare) else { return vec![to] };
            let (from, end) = (from.unwrap_or(new), end.unwrap_or(new));
            let of_groups = bits(from.groups.into(), end.groups.into());
            let of_groups = of_groups.map(|groups| PortSpec { groups: low(groups), ..from });
            let regrouped = PortSpec { groups: end.groups, ..from };
            let of_pairs = bits(from.pairs.into(), end.pairs.into());
            let of_pairs = of_pairs.map(|pairs| PortSpec { pairs: low(pairs), ..regrouped });
            of_groups.chain(of_pairs).map(|port| Change::Port(n, Some(port))).collect()
        }
        // Away first: unplugged, and plugged in again.
        (Change::Bind(n, Some(_)), Change::Bind(_, Some(_))) => vec![Change::Bind(n, None)],
        (Change::NetworkPort(n, Some(_)), Change::NetworkPort(_, Some(_))) => {
            vec![Change::NetworkPort(n, None)]
        }
        _ => Vec::new(),
    };
    steps.push(to);
    steps
}

/// From one mask to the other, a bit a step: first what comes, then what goes.
fn bits(from: u16, to: u16) -> impl Iterator<Item = u16> {
    let single = |of: u16| (0..16).map(|bit| 1u16 << bit).filter(move |bit| of & bit != 0);
    let steps = single(to & !from).chain(single(from & !to));
    steps.scan(from, |mask, bit| {
        *mask ^= bit;
        Some(*mask)
    })
}

fn low(mask: u16) -> u8 {
    u8::try_from(mask).unwrap()
}
