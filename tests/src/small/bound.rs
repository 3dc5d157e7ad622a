//! Which worlds there are, and in what order.

use policy::Service;

use super::world::{GroupSpec, PORTS, RuleSpec, World, palette};

/// A port carries no group, A, B, or both: a bit each.
const NONE: u8 = 0;
const A: u8 = 1;
const B: u8 = 2;
const BOTH: u8 = 3;

/// A bound on worlds, by the rules of both groups together and by who carries what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    rules: Rules,
    carried: Vec<[u8; PORTS]>,
}

/// How many rules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// None or one.
    One,
    /// Two of one direction and ethertype, both with a range of ports.
    TwoRanges,
    /// Two of one direction and ethertype.
    TwoAlike,
    /// Two.
    Two,
}

impl Bound {
    /// At most one rule; the local ports carry whatever there is to carry.
    pub fn one_rule() -> Self {
        Bound { rules: Rules::One, carried: local_ports_carry_anything() }
    }

    /// Two rules of one direction and ethertype, both with a range of ports. The first port carries both groups, so that
    /// they meet in a set; A and B are each carried by one more.
    pub fn two_ranges() -> Self {
        Bound { rules: Rules::TwoRanges, carried: one_port_carries_both() }
    }

    /// Two rules of one direction and ethertype; groups are carried as in [`Bound::two_ranges`].
    pub fn two_rules_alike() -> Self {
        Bound { rules: Rules::TwoAlike, carried: one_port_carries_both() }
    }

    /// Any two rules; the local ports carry whatever there is to carry.
    pub fn two_rules() -> Self {
        Bound { rules: Rules::Two, carried: local_ports_carry_anything() }
    }

    /// All worlds in the bound, each as near to the one before it as can be: one thing changes from one to the next, but
    /// for the places where a world is there under another name.
    pub fn worlds(&self) -> impl Iterator<Item = World> + '_ {
        let stateless = [(false, false), (false, true), (true, true), (true, false)];
        let of_rules = there_and_back(self.rule_lists(), stateless.to_vec());
        let all = there_and_back(of_rules, self.carried.clone());
        let worlds = all.map(|((rules, stateless), carried)| world(&rules, stateless, carried));
        let is_named_so = |group: &GroupSpec| !(group.stateless && group.rules.is_empty());
        worlds.filter(move |world| world.groups.iter().all(is_named_so) && *world <= world.exchanged())
    }

    /// Rules with their groups: places in the palette twice over.
    fn rule_lists(&self) -> impl Iterator<Item = Vec<usize>> + use<> {
        let palette = palette();
        let all = 2 * palette.len();
        let which = self.rules;
        let belongs = move |pair: &Vec<usize>| {
            let [one, other] = [pair[0], pair[1]].map(|rule| palette[rule % palette.len()]);
            let is_alike = (one.direction, one.ethertype) == (other.direction, other.ethertype);
            let has_range = |rule: RuleSpec| matches!(rule.service, Service::Ports { .. });
            match which {
                Rules::One => false,
                Rules::TwoRanges => is_alike && has_range(one) && has_range(other),
                Rules::TwoAlike => is_alike,
                Rules::Two => true,
            }
        };
        let pairs = (0..all).flat_map(move |first| {
            let seconds: Vec<usize> = (first..all).collect();
            let turned = if first % 2 == 0 { seconds } else { seconds.into_iter().rev().collect() };
            turned.into_iter().map(move |second| vec![first, second])
        });
        let fewer = [Vec::new()].into_iter().chain((0..all).map(|rule| vec![rule]));
        fewer.filter(move |_| which == Rules::One).chain(pairs.filter(belongs))
    }
}

fn one_port_carries_both() -> Vec<[u8; PORTS]> {
    vec![[BOTH, A, B], [BOTH, B, A]]
}

fn local_ports_carry_anything() -> Vec<[u8; PORTS]> {
    // Rules change at the ends: both ports carry B there, the group of a single rule, so that connections meet the change.
    let anything = [B, NONE, A, BOTH];
    there_and_back(anything.into_iter(), anything.to_vec())
        .map(|(first, second)| [first, second, NONE])
        .collect()
}

/// Every pair; the inner part goes up and down by turns, so that one part changes at a time.
fn there_and_back<T: Clone, U: Clone>(
    outer: impl Iterator<Item = T>,
    inner: Vec<U>,
) -> impl Iterator<Item = (T, U)> {
    outer.enumerate().flat_map(move |(n, outer)| {
        let mut inner = inner.clone();
        if n % 2 == 1 {
            inner.reverse();
        }
        inner.into_iter().map(move |inner| (outer.clone(), inner))
    })
}

fn world(rules: &[usize], (a, b): (bool, bool), carried: [u8; PORTS]) -> World {
    let size = palette().len();
    let of_group = |group: usize| {
        let mut rules: Vec<usize> =
            rules.iter().filter(|rule| **rule / size == group).map(|rule| rule % size).collect();
        rules.sort_unstable();
        rules
    };
    let groups =
        [GroupSpec { rules: of_group(0), stateless: a }, GroupSpec { rules: of_group(1), stateless: b }];
    World { groups, carried }
}
