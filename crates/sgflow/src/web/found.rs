//! Groups and ports that somebody looks for by a part of a name, an id or an address.

use std::collections::{BTreeMap, BTreeSet};

use explain::words::group_name;
use policy::{GroupId, Policy, Port, SecurityGroup};
use serde::Serialize;

/// So many are shown.
const SHOWN: usize = 50;

/// The groups that were looked for, in the order of their names.
#[derive(Serialize)]
pub(super) struct FoundGroups {
    groups: Vec<FoundGroup>,
    /// How many there are, those that are not shown with them.
    found: usize,
    all: usize,
}

#[derive(Serialize)]
struct FoundGroup {
    id: String,
    name: String,
    ports: usize,
    rules: usize,
}

/// The ports that were looked for, those of this host first.
#[derive(Serialize)]
pub(super) struct FoundPorts {
    ports: Vec<FoundPort>,
    found: usize,
    all: usize,
}

#[derive(Serialize)]
struct FoundPort {
    id: String,
    addresses: Vec<String>,
    groups: Vec<String>,
    is_local: bool,
}

/// Whether `search`, which may be in any case, is a part of one of `texts`.
pub(super) fn is_found(search: &str, texts: &[&str]) -> bool {
    let search = search.trim().to_lowercase();
    texts.iter().any(|text| text.to_lowercase().contains(&search))
}

/// Whether a group is meant.
pub(super) fn is_group(search: &str, group: &SecurityGroup) -> bool {
    is_found(search, &[group.id.as_str(), &group.name])
}

/// Whether a port is meant: by its id, an address, or a group of it.
pub(super) fn is_port(search: &str, policy: &Policy, port: &Port) -> bool {
    let addresses: Vec<String> = port.fixed_ips.iter().map(ToString::to_string).collect();
    let groups = port.security_groups.iter().map(|group| group_name(policy, group));
    let texts: Vec<&str> =
        [port.id.as_str()].into_iter().chain(addresses.iter().map(String::as_str)).chain(groups).collect();
    is_found(search, &texts)
}

/// How many ports carry each group.
pub(super) fn carriers(policy: &Policy) -> BTreeMap<&GroupId, usize> {
    let mut carriers = BTreeMap::new();
    for group in policy.ports.values().flat_map(|port| &port.security_groups) {
        *carriers.entry(group).or_default() += 1;
    }
    carriers
}

pub(super) fn groups(policy: &Policy, search: &str) -> FoundGroups {
    let carriers = carriers(policy);
    let mut found: Vec<_> = policy.groups.values().filter(|group| is_group(search, group)).collect();
    found.sort_by_key(|group| (group_name(policy, &group.id), &group.id));
    let shown = found.iter().take(SHOWN).map(|group| FoundGroup {
        id: group.id.to_string(),
        name: group_name(policy, &group.id).to_owned(),
        ports: carriers.get(&group.id).copied().unwrap_or_default(),
        rules: group.rules.len(),
    });
    FoundGroups { groups: shown.collect(), found: found.len(), all: policy.groups.len() }
}

pub(super) fn ports(policy: &Policy, local: &BTreeSet<String>, search: &str) -> FoundPorts {
    let mut found: Vec<_> = policy.ports.values().filter(|port| is_port(search, policy, port)).collect();
    found.sort_by_key(|port| !local.contains(port.id.as_str()));
    let shown = found.iter().take(SHOWN).map(|port| FoundPort {
        id: port.id.to_string(),
        addresses: port.fixed_ips.iter().map(ToString::to_string).collect(),
        groups: port.security_groups.iter().map(|group| group_name(policy, group).to_owned()).collect(),
        is_local: local.contains(port.id.as_str()),
    });
    FoundPorts { ports: shown.collect(), found: found.len(), all: policy.ports.len() }
}
