//! Objects of a document, read one by one, before they are held against each other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{AddressGroup, AddressGroupId, AddressPair, GroupId, Port, PortId, Rule, RuleId};

use super::diagnostic::{Diagnostic, ObjectId};
use super::fields::{Fields, Place};
use super::node::{Node, Value};

/// An object as it was read: `object` is none if it is malformed, `id` if even that could not be read.
#[derive(Debug)]
pub(super) struct Draft<I, T> {
    pub(super) place: Place,
    pub(super) id: Option<I>,
    pub(super) object: Option<T>,
}

/// A security group without its rules, which are refused one by one.
#[derive(Debug)]
pub(super) struct GroupHead {
    pub(super) name: String,
    pub(super) stateful: bool,
}

/// A rule and the group that it stands in or names; none if that could not be read.
#[derive(Debug)]
pub(super) struct RuleDraft {
    pub(super) group: Option<GroupId>,
    /// The address group that it refers to, and the line; of a malformed rule too.
    pub(super) address_group: Option<(u64, AddressGroupId)>,
    pub(super) draft: Draft<RuleId, Rule>,
}

/// A port and the groups that it names, each with its line; of a malformed port too.
#[derive(Debug)]
pub(super) struct PortDraft {
    pub(super) groups: Vec<(u64, GroupId)>,
    pub(super) draft: Draft<PortId, Port>,
}

/// Everything that stands in the files.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub(super) groups: Vec<Draft<GroupId, GroupHead>>,
    pub(super) rules: Vec<RuleDraft>,
    pub(super) address_groups: Vec<Draft<AddressGroupId, AddressGroup>>,
    pub(super) ports: Vec<PortDraft>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

const GROUP_FIELDS: [&str; 4] = ["id", "name", "stateful", "security_group_rules"];
const ADDRESS_GROUP_FIELDS: [&str; 3] = ["id", "name", "addresses"];
const PORT_FIELDS: [&str; 9] = [
    "id",
    "network_id",
    "mac_address",
    "fixed_ips",
    "allowed_address_pairs",
    "security_groups",
    "port_security_enabled",
    "device_owner",
    "binding:host_id",
];

impl Drafts {
    /// Reads a security group and the rules inside it. `path` names the object's place in its file, for one
    /// whose id cannot be read.
    pub(super) fn read_group(&mut self, file: &Arc<str>, path: &str, node: &Node) {
        let place = Place { file: Arc::clone(file), line: node.line };
        let mut fields = Fields::new(&place, path, node);
        let id = fields.id::<GroupId>("id");
        if let Some(id) = &id {
            fields.rename(ObjectId::SecurityGroup(id.clone()));
        }
        fields.refuse_misspelt(&GROUP_FIELDS);
        let name = fields.text("name").unwrap_or_default().to_owned();
        let stateful = fields.boolean("stateful", true);
        let rules = fields.list("security_group_rules");
        let problems = fields.finish();
        let object = problems.is_empty().then_some(GroupHead { name, stateful });
        self.diagnostics.extend(problems);
        for (index, node) in rules.iter().enumerate() {
            let of = id.as_ref().map_or_else(|| path.to_owned(), |id| format!("security group {id}"));
            self.read_rule(file, &format!("security_group_rules[{index}] of {of}"), node, id.as_ref());
        }
        self.groups.push(Draft { place, id, object });
    }

    /// Reads an address group.
    pub(super) fn read_address_group(&mut self, file: &Arc<str>, path: &str, node: &Node) {
        let place = Place { file: Arc::clone(file), line: node.line };
        let mut fields = Fields::new(&place, path, node);
        let id = fields.id::<AddressGroupId>("id");
        if let Some(id) = &id {
            fields.rename(ObjectId::AddressGroup(id.clone()));
        }
        fields.refuse_misspelt(&ADDRESS_GROUP_FIELDS);
        let name = fields.text("name").unwrap_or_default().to_owned();
        let mut addresses = BTreeSet::new();
        for (index, node) in fields.list("addresses").iter().enumerate() {
            addresses.extend(fields.prefix_of(&format!("addresses[{index}]"), node));
        }
        let problems = fields.finish();
        let object = match &id {
            Some(id) if problems.is_empty() => Some(AddressGroup { id: id.clone(), name, addresses }),
            _ => None,
        };
        self.diagnostics.extend(problems);
        self.address_groups.push(Draft { place, id, object });
    }

    /// Reads a port.
    pub(super) fn read_port(&mut self, file: &Arc<str>, path: &str, node: &Node) {
        let place = Place { file: Arc::clone(file), line: node.line };
        let mut fields = Fields::new(&place, path, node);
        let id = fields.id::<PortId>("id");
        if let Some(id) = &id {
            fields.rename(ObjectId::Port(id.clone()));
        }
        fields.refuse_misspelt(&PORT_FIELDS);
        let network_id = fields.id("network_id");
        fields.required("mac_address");
        let mac = fields.station("mac_address");
        let fixed_ips = read_fixed_ips(&mut fields);
        let allowed_address_pairs = read_address_pairs(&mut fields);
        let mut groups = Vec::new();
        for (index, node) in fields.list("security_groups").iter().enumerate() {
            let id = fields.id_of::<GroupId>(&format!("security_groups[{index}]"), node);
            groups.extend(id.map(|id| (node.line, id)));
        }
        let port_security_enabled = fields.boolean("port_security_enabled", true);
        let device_owner = fields.text("device_owner").unwrap_or_default().to_owned();
        let host = fields.text("binding:host_id").filter(|host| !host.is_empty()).map(str::to_owned);
        let problems = fields.finish();
        let object = match (&id, network_id, mac) {
            (Some(id), Some(network_id), Some(mac)) if problems.is_empty() => Some(Port {
                id: id.clone(),
                network_id,
                mac,
                fixed_ips,
                allowed_address_pairs,
                security_groups: groups.iter().map(|(_, id)| id.clone()).collect(),
                port_security_enabled,
                device_owner,
                host,
            }),
            _ => None,
        };
        self.diagnostics.extend(problems);
        self.ports.push(PortDraft { groups, draft: Draft { place, id, object } });
    }
}

fn read_fixed_ips(fields: &mut Fields<'_>) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    fields.each("fixed_ips", |fields| {
        fields.required("ip_address");
        addresses.extend(fields.parsed::<IpAddr>("ip_address"));
    });
    addresses
}

fn read_address_pairs(fields: &mut Fields<'_>) -> BTreeSet<AddressPair> {
    let mut pairs = BTreeSet::new();
    fields.each("allowed_address_pairs", |fields| {
        fields.refuse_misspelt(&["ip_address", "mac_address"]);
        let mac = fields.station("mac_address");
        if let Some(node) = fields.required("ip_address") {
            let ip = fields.prefix_of("ip_address", node);
            pairs.extend(ip.map(|ip| AddressPair { ip, mac }));
        }
    });
    pairs
}

/// Reads one file's mapping of kinds to objects: the API's envelopes, singular and plural. What is wrong here is
/// wrong with the document as a whole; the answer tells whether nothing was.
pub(super) fn read_file(drafts: &mut Drafts, file: &Arc<str>, root: &Node) -> bool {
    type Read = fn(&mut Drafts, &Arc<str>, &str, &Node);
    let kinds: [(&str, &str, Read); 4] = [
        ("security_groups", "security_group", |drafts, file, path, node| drafts.read_group(file, path, node)),
        ("security_group_rules", "security_group_rule", |drafts, file, path, node| {
            drafts.read_rule(file, path, node, None);
        }),
        ("address_groups", "address_group", |drafts, file, path, node| {
            drafts.read_address_group(file, path, node);
        }),
        ("ports", "port", |drafts, file, path, node| drafts.read_port(file, path, node)),
    ];
    let mut fields = Fields::new(&Place { file: Arc::clone(file), line: root.line }, "document", root);
    let entries: &[(String, Node)] = match &root.value {
        Value::Map(entries) => entries,
        _ => &[],
    };
    for (key, node) in entries {
        let plural = kinds.iter().find(|(plural, ..)| plural == key);
        let singular = kinds.iter().find(|(_, singular, _)| singular == key);
        match (plural, singular, &node.value) {
            (Some(_), _, Value::Null) => {}
            (Some((.., read)), _, Value::List(nodes)) => {
                for (index, node) in nodes.iter().enumerate() {
                    read(drafts, file, &format!("{key}[{index}]"), node);
                }
            }
            (Some(_), _, other) => {
                fields.complain(node.line, key, format_args!("expected a list, found {}", other.kind()));
            }
            (None, Some((.., read)), _) => read(drafts, file, key, node),
            (None, None, _) => {
                let known = kinds.map(|(plural, ..)| plural).join(", ");
                fields.complain(node.line, key, format_args!("unknown key; a document has {known}"));
            }
        }
    }
    let problems = fields.finish();
    let sound = problems.is_empty();
    drafts.diagnostics.extend(problems);
    sound
}
