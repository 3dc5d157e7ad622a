//! What drivers say of ports and groups, page by page.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use policy::{AddressGroup, AddressGroupId, GroupId, SecurityGroup};

use crate::api::{GroupCursor, GroupEntry, GroupPage, PageQuery, PortEntry, PortPage};

/// So many ids of ports in a page of groups end it: a group may be carried by all ports of a host.
const PORTS_OF_PAGE: usize = 16_384;

/// The page of ports that is asked for, of all in the order of their ids.
pub(super) fn ports(
    query: &PageQuery,
    all: impl Iterator<Item = PortEntry>,
    is_it: impl Fn(&PortEntry, &str) -> bool,
) -> PortPage {
    if let Some(id) = &query.id {
        return PortPage {
            ports: all.filter(|port| port.id == *id || is_it(port, id)).collect(),
            next: None,
        };
    }
    let mut behind = all.skip_while(|port| query.after.as_ref().is_some_and(|after| port.id <= *after));
    let ports: Vec<PortEntry> = behind.by_ref().take(query.room()).collect();
    let next = behind.next().and_then(|_| ports.last().map(|port| port.id.clone()));
    PortPage { ports, next }
}

/// The page of groups that is asked for; `complete` adds what the policy does not say.
pub(super) fn groups(
    query: &PageQuery,
    groups: &BTreeMap<GroupId, Arc<SecurityGroup>>,
    address_groups: &BTreeMap<AddressGroupId, Arc<AddressGroup>>,
    mut complete: impl FnMut(&mut GroupEntry),
) -> GroupPage {
    if let Some(id) = &query.id {
        let mut found: Vec<GroupEntry> = named(id, groups, address_groups);
        found.iter_mut().for_each(complete);
        return GroupPage { groups: found, next: None };
    }
    let cursor = GroupCursor::of(query.after.as_deref()).unwrap_or(GroupCursor::Begin);
    let (group, address_group) = match cursor {
        GroupCursor::Begin => (Some(Bound::Unbounded), Bound::Unbounded),
        GroupCursor::SecurityGroup(id) => (Some(Bound::Excluded(GroupId::from(id))), Bound::Unbounded),
        GroupCursor::AddressGroup(id) => (None, Bound::Excluded(AddressGroupId::from(id))),
    };
    let first = group.into_iter().flat_map(|from| groups.range((from, Bound::Unbounded)));
    let second = address_groups.range((address_group, Bound::Unbounded));
    let mut all = first
        .map(|(_, group)| GroupEntry::of_security_group(group))
        .chain(second.map(|(_, group)| GroupEntry::of_address_group(group)))
        .peekable();
    let mut page = GroupPage::default();
    let mut ports = 0;
    while page.groups.len() < query.room()
        && ports < PORTS_OF_PAGE
        && let Some(mut group) = all.next()
    {
        complete(&mut group);
        ports += group.local_ports.len();
        page.groups.push(group);
    }
    page.next = all.peek().and_then(|_| page.groups.last()).map(GroupEntry::cursor);
    page
}

/// Those of this id, or else of this name.
fn named(
    id: &str,
    groups: &BTreeMap<GroupId, Arc<SecurityGroup>>,
    address_groups: &BTreeMap<AddressGroupId, Arc<AddressGroup>>,
) -> Vec<GroupEntry> {
    let by_id = groups.get(&GroupId::from(id)).map(|group| GroupEntry::of_security_group(group));
    let address_group = address_groups.get(&AddressGroupId::from(id));
    let by_id: Vec<_> =
        by_id.into_iter().chain(address_group.map(|group| GroupEntry::of_address_group(group))).collect();
    if !by_id.is_empty() {
        return by_id;
    }
    let of_name = groups.values().filter(|group| group.name == id);
    let address_groups = address_groups.values().filter(|group| group.name == id);
    let of_name = of_name.map(|group| GroupEntry::of_security_group(group));
    of_name.chain(address_groups.map(|group| GroupEntry::of_address_group(group))).collect()
}

#[cfg(test)]
mod tests {
    use policy::document;

    use super::*;
    use crate::api::PortState;

    fn query(after: Option<&str>, limit: usize) -> PageQuery {
        PageQuery { after: after.map(str::to_owned), limit: Some(limit), ..PageQuery::default() }
    }

    #[test]
    fn pages_of_ports_follow_on_each_other_and_end() {
        let all = || ["a", "b", "c"].into_iter().map(|id| PortEntry::new(id, PortState::Closed));
        let ids = |page: &PortPage| page.ports.iter().map(|port| port.id.clone()).collect::<Vec<_>>();
        let first = ports(&query(None, 2), all(), |_, _| false);
        assert_eq!((ids(&first), first.next.as_deref()), (vec!["a".into(), "b".into()], Some("b")));
        let second = ports(&query(Some("b"), 2), all(), |_, _| false);
        assert_eq!((ids(&second), second.next), (vec!["c".into()], None));
        // The one behind which it goes on is gone by now.
        assert_eq!(ids(&ports(&query(Some("aa"), 1), all(), |_, _| false)), ["b"]);
        assert_eq!(ports(&query(None, 3), all(), |_, _| false).next, None, "nothing is behind a full page");
    }

    #[test]
    fn pages_of_groups_have_every_group_once_and_address_groups_last() {
        let text = "security_groups: [{id: b, name: web}, {id: a}]\naddress_groups: [{id: a, name: web, addresses: []}, {id: '0', addresses: []}]";
        let policy = document::parse(&[("p.yaml", text)], None).policy;
        let page = |query: &PageQuery| groups(query, &policy.groups, &policy.address_groups, |_| {});
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = page(&query(after.as_deref(), 1));
            all.extend(page.groups.iter().map(GroupEntry::cursor));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(all, ["security-group/a", "security-group/b", "address-group/0", "address-group/a"]);
        let one = |id: &str| {
            let page = page(&PageQuery { id: Some(id.to_owned()), ..PageQuery::default() });
            page.groups.iter().map(GroupEntry::cursor).collect::<Vec<_>>()
        };
        assert_eq!(one("a"), ["security-group/a", "address-group/a"], "by id");
        assert_eq!(one("web"), ["security-group/b", "address-group/a"], "by name");
        assert!(one("c").is_empty());
    }
}
