//! How full the kernel's sets are, kept so that nobody has to look at all of them.

use std::collections::{BTreeMap, BTreeSet};

use ipset::SetName;

use crate::api::{KernelSets, SetFill};

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Fills {
    sets: BTreeMap<SetName, SetFill>,
    /// By how full they are, in thousandths.
    by_fill: BTreeSet<(u64, SetName)>,
    members: usize,
    max_members: u64,
}

impl Fills {
    /// A set is to hold so many elements, and has room for so many.
    pub(super) fn note(&mut self, name: &SetName, (members, max_members): (usize, Option<u32>)) {
        self.forget(name);
        let fill = SetFill { name: name.to_string(), members, max_members };
        self.members += members;
        self.max_members += max_members.map_or(0, u64::from);
        self.by_fill.insert((fill.permille(), name.clone()));
        self.sets.insert(name.clone(), fill);
    }

    /// There is no such set any more.
    pub(super) fn forget(&mut self, name: &SetName) {
        if let Some(fill) = self.sets.remove(name) {
            self.members -= fill.members;
            self.max_members -= fill.max_members.map_or(0, u64::from);
            self.by_fill.remove(&(fill.permille(), name.clone()));
        }
    }

    /// All of them in sum.
    pub fn sum(&self) -> KernelSets {
        KernelSets {
            sets: self.sets.len(),
            members: self.members,
            max_members: self.max_members,
            fullest: self.fullest(1).pop(),
        }
    }

    /// The fullest, fullest first; so many at most.
    pub fn fullest(&self, most: usize) -> Vec<SetFill> {
        let names = self.by_fill.iter().rev().take(most);
        names.filter_map(|(_, name)| self.sets.get(name).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_and_the_fullest_follow_each_change() {
        let name = |text: &str| text.parse::<SetName>().unwrap();
        let mut fills = Fills::default();
        assert_eq!(fills.sum(), KernelSets::default());
        fills.note(&name("a"), (10, Some(100)));
        fills.note(&name("b"), (90, Some(1000)));
        fills.note(&name("c"), (5, None));
        let names = |fills: &Fills| fills.fullest(2).into_iter().map(|fill| fill.name).collect::<Vec<_>>();
        assert_eq!(names(&fills), ["a", "b"]);
        fills.note(&name("b"), (900, Some(1000)));
        assert_eq!(names(&fills), ["b", "a"]);
        let sum = fills.sum();
        assert_eq!((sum.sets, sum.members, sum.max_members), (3, 915, 1100));
        for set in ["a", "b", "c"] {
            fills.forget(&name(set));
        }
        fills.forget(&name("a"));
        assert_eq!(fills.sum(), KernelSets::default());
    }
}
