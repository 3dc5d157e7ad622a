//! Objects of a document, read one by one, before they are held against each other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{AddressGroup, AddressGroupId, AddressPair, GroupId, NetworkId, Port, PortId, Rule, RuleId};

use super::diagnostic::{Diagnostic, ObjectId};
use super::fields::{Fields, Place};
use super::node::{Entries, Node, Value};

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
    /// What many ports name, once.
    networks: BTreeSet<NetworkId>,
    named_groups: BTreeSet<GroupId>,
}

/// The same id, held once.
fn once<I: Ord + Clone>(held: &mut BTreeSet<I>, id: I) -> I {
    match held.get(&id) {
        Some(same) => same.clone(),
        None => {
            held.insert(id.clone());
            id
        }
    }
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
    /// Those of a further file.
    fn append(&mut self, more: Drafts) {
        fn join<T>(all: &mut Vec<T>, more: Vec<T>) {
            match all.is_empty() {
                true => *all = more,
                false => all.extend(more),
            }
        }
        join(&mut self.groups, more.groups);
        join(&mut self.rules, more.rules);
        join(&mut self.address_groups, more.address_groups);
        join(&mut self.ports, more.ports);
        join(&mut self.diagnostics, more.diagnostics);
    }

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
        let network_id = fields.id("network_id").map(|id| once(&mut self.networks, id));
        fields.required("mac_address");
        let mac = fields.station("mac_address");
        let fixed_ips = read_fixed_ips(&mut fields);
        let allowed_address_pairs = read_address_pairs(&mut fields);
        let mut groups = Vec::new();
        for (index, node) in fields.list("security_groups").iter().enumerate() {
            let id = fields.id_of::<GroupId>(&format!("security_groups[{index}]"), node);
            groups.extend(id.map(|id| (node.line, once(&mut self.named_groups, id))));
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

/// The lists that a document has, the envelope of a single object of each, and how such an object is read.
type Kind = (&'static str, &'static str, fn(&mut Drafts, &Arc<str>, &str, &Node));
const KINDS: [Kind; 4] = [
    ("security_groups", "security_group", Drafts::read_group),
    ("security_group_rules", "security_group_rule", |drafts, file, path, node| {
        drafts.read_rule(file, path, node, None);
    }),
    ("address_groups", "address_group", Drafts::read_address_group),
    ("ports", "port", Drafts::read_port),
];

/// One file's objects, by the API's envelopes, singular and plural.
#[derive(Debug)]
pub(super) struct FileObjects {
    file: Arc<str>,
    drafts: Drafts,
    /// What is wrong with the document as a whole.
    problems: Vec<Diagnostic>,
}

impl FileObjects {
    pub(super) fn new(file: Arc<str>) -> Self {
        FileObjects { file, drafts: Drafts::default(), problems: Vec::new() }
    }

    /// Adds the objects to those of other files; tells whether the document as a whole is sound.
    pub(super) fn add_to(self, drafts: &mut Drafts) -> bool {
        let sound = self.problems.is_empty();
        drafts.append(self.drafts);
        drafts.diagnostics.extend(self.problems);
        sound
    }

    fn complain(&mut self, line: u64, field: &str, reason: String) {
        let (file, object) = (Arc::clone(&self.file), "document".to_owned());
        self.problems.push(Diagnostic { file, line, object, field: field.to_owned(), reason });
    }
}

impl Entries for FileObjects {
    fn wants_elements(&self, key: &str) -> bool {
        KINDS.iter().any(|(plural, ..)| *plural == key)
    }

    fn element(&mut self, key: &str, index: usize, node: &Node) {
        if let Some((.., read)) = KINDS.iter().find(|(plural, ..)| *plural == key) {
            read(&mut self.drafts, &self.file, &format!("{key}[{index}]"), node);
        }
    }

    fn value(&mut self, key: &str, node: &Node) {
        let singular = KINDS.iter().find(|(_, singular, _)| *singular == key);
        match (self.wants_elements(key), singular, &node.value) {
            (true, _, Value::Null) => {}
            (true, _, Value::List(nodes)) => {
                for (index, node) in nodes.iter().enumerate() {
                    self.element(key, index, node);
                }
            }
            (true, _, other) => {
                self.complain(node.line, key, format!("expected a list, found {}", other.kind()));
            }
            (false, Some((.., read)), _) => read(&mut self.drafts, &self.file, key, node),
            (false, None, _) => {
                let known = KINDS.map(|(plural, ..)| plural).join(", ");
                self.complain(node.line, key, format!("unknown key; a document has {known}"));
            }
        }
    }

    fn no_mapping(&mut self, node: &Node) {
        self.complain(node.line, "object", format!("expected a mapping, found {}", node.value.kind()));
    }
}
