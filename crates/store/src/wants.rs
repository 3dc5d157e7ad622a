//! Which rows a host wants to see, as conditions of its monitor (ovsdb-server(7), 4.1.12: `monitor_cond`).

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{Condition, Value};
use policy::{AddressGroupId, GroupId, PortId};

use crate::schema::{ADDRESS_GROUP, GLOBAL, MEMBERS, PORT, SECURITY_GROUP};

/// Rows by what they are called.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wants {
    /// The ports that are bound to it.
    pub host: String,
    /// Ports besides those.
    pub ports: BTreeSet<PortId>,
    /// Security groups.
    pub groups: BTreeSet<GroupId>,
    /// Address groups.
    pub address_groups: BTreeSet<AddressGroupId>,
}

impl Wants {
    /// Whether whoever sees `other` sees all of it.
    pub fn is_within(&self, other: &Wants) -> bool {
        self.host == other.host
            && self.ports.is_subset(&other.ports)
            && self.groups.is_subset(&other.groups)
            && self.address_groups.is_subset(&other.address_groups)
    }

    /// The conditions by table. A row is seen that meets one of them.
    pub fn conditions(&self) -> BTreeMap<&'static str, Vec<Condition>> {
        let mut ports = vec![Condition::includes("hosts", Value::set([self.host.as_str()]))];
        ports.extend(self.ports.iter().map(|id| Condition::equal("id", id.as_str())));
        let groups =
            |column: &'static str| self.groups.iter().map(move |id| Condition::equal(column, id.as_str()));
        let address_groups = self.address_groups.iter().map(|id| Condition::equal("id", id.as_str()));
        BTreeMap::from([
            (PORT, ports),
            (SECURITY_GROUP, or_none(groups("id"))),
            (MEMBERS, or_none(groups("security_group"))),
            (ADDRESS_GROUP, or_none(address_groups)),
            (GLOBAL, vec![Condition::Always(true)]),
        ])
    }
}

/// No condition at all would mean every row.
fn or_none(conditions: impl Iterator<Item = Condition>) -> Vec<Condition> {
    let conditions: Vec<Condition> = conditions.collect();
    if conditions.is_empty() { vec![Condition::Always(false)] } else { conditions }
}

/// How many ports and rules want each group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Uses<I>(BTreeMap<I, usize>);

impl<I: Ord + Clone> Uses<I> {
    pub(crate) const fn new() -> Self {
        Uses(BTreeMap::new())
    }

    /// One more; whether it is the first.
    pub(crate) fn add(&mut self, id: &I) -> bool {
        let count = self.0.entry(id.clone()).or_default();
        *count += 1;
        *count == 1
    }

    /// One less; whether it was the last.
    pub(crate) fn remove(&mut self, id: &I) -> bool {
        let Some(count) = self.0.get_mut(id) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.0.remove(id);
        }
        is_last
    }

    pub(crate) fn contains(&self, id: &I) -> bool {
        self.0.contains_key(id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &I> {
        self.0.keys()
    }
}
