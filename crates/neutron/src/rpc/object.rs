//! Versioned objects (`oslo_versionedobjects`, `neutron/objects`) in the words of the Networking API.
//!
//! Fields that are not set are absent. What a field holds is left for [`policy::document`] to judge, which refuses by object and field; here only the
//! nesting is undone, and what is not needed left out.

use serde_json::{Map, Value, json};

use super::envelope::kind;
use crate::Refused;

/// The types that make a policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// With its rules.
    SecurityGroup,
    /// As it is pushed alone.
    SecurityGroupRule,
    /// With its addresses.
    AddressGroup,
    /// With its addresses, groups and bindings.
    Port,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::SecurityGroup, Kind::SecurityGroupRule, Kind::AddressGroup, Kind::Port];

    /// As the server calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::SecurityGroup => "SecurityGroup",
            Kind::SecurityGroupRule => "SecurityGroupRule",
            Kind::AddressGroup => "AddressGroup",
            Kind::Port => "Port",
        }
    }

    /// The version that is asked for: the lowest that has what is needed and that every server can give. What a server cannot put into a version it does not push in any
    /// other either, so one that is not possible would harm Neutron's own agents. Neutron 22.2 to 29.0 were tried; they have Port 1.7 to 1.11, SecurityGroup 1.5 and 1.6,
    /// SecurityGroupRule 1.2 and 1.3, AddressGroup 1.2.
    ///
    /// Port 1.4 has all bindings, not the active one alone; SecurityGroup 1.3 and SecurityGroupRule 1.1 have `remote_address_group_id` (`obj_make_compatible` in
    /// `neutron/objects` 22.2.1). Neutron 29.0 cannot give AddressGroup below 1.2 ("No rule for addresses").
    pub const fn version(self) -> &'static str {
        match self {
            Kind::SecurityGroup => "1.3",
            Kind::SecurityGroupRule => "1.1",
            Kind::AddressGroup => "1.2",
            Kind::Port => "1.4",
        }
    }

    /// The fanout exchange of its pushes: `RESOURCE_TOPIC_PATTERN` of `neutron_lib/agent/topics.py`, and oslo.messaging's ending.
    pub fn exchange(self) -> String {
        format!("neutron-vo-{}-{}_fanout", self.name(), self.version())
    }

    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Kind::SecurityGroup => "security group",
            Kind::SecurityGroupRule => "rule",
            Kind::AddressGroup => "address group",
            Kind::Port => "port",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An object as it was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Unique in its kind, and never used again.
    pub id: String,
    /// Grows with every change; 0 where none is told.
    pub revision: u64,
    /// The rest.
    pub body: Body,
}

/// What an object says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// A security group.
    Group(Group),
    /// A rule.
    Rule(Rule),
    /// An address group: a document of it, as JSON.
    AddressGroup(String),
    /// A port.
    Port(Port),
}

/// A security group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// A document of it as JSON, but for its rules.
    pub head: String,
    /// Its rules, where they are told.
    pub rules: Option<Vec<Object>>,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its group.
    pub group: String,
    /// A document of it, as JSON.
    pub document: String,
    /// What it names.
    pub remote_group: Option<String>,
    /// What it names.
    pub remote_address_group: Option<String>,
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Port {
    /// A document of it, as JSON.
    pub document: String,
    /// What it carries.
    pub groups: Vec<String>,
    /// Hosts that it is bound to: where it is active first, then where it comes from or goes to (a live migration binds it twice).
    pub hosts: Vec<String>,
}

/// The kind and id of a primitive, which is all that counts of one that was deleted (the other fields are defaults, not data), and its fields.
pub(super) fn identity(primitive: &Value) -> Result<(Kind, String, &Map<String, Value>), Refused> {
    let name = primitive.get("versioned_object.name").and_then(Value::as_str).unwrap_or_default();
    let refused = |field, reason: String| Err(Refused::new("message of Neutron".to_owned(), field, reason));
    let Some(of) = Kind::of(name) else {
        return refused("versioned_object.name", format!("{name:?} is no object that was asked for"));
    };
    let Some(data) = primitive.get("versioned_object.data").and_then(Value::as_object) else {
        let found = kind(primitive.get("versioned_object.data"));
        return refused("versioned_object.data", format!("of a {}: is {found}, not an object", of.words()));
    };
    match data.get("id").and_then(Value::as_str) {
        Some(id) if !id.is_empty() => Ok((of, id.to_owned(), data)),
        _ => refused("id", format!("of a {}: is {}", of.words(), kind(data.get("id")))),
    }
}

/// Reads a primitive (`obj_to_primitive`).
///
/// # Errors
/// It is none of a kind that is known, or nested as no version of Neutron nests it.
pub fn read(primitive: &Value) -> Result<Object, Refused> {
    let (kind, id, data) = identity(primitive)?;
    let body = match kind {
        Kind::SecurityGroup => Body::Group(group(&id, data)?),
        Kind::SecurityGroupRule => Body::Rule(rule(&id, data)?),
        Kind::AddressGroup => Body::AddressGroup(address_group(&id, data)?),
        Kind::Port => Body::Port(port(&id, data)?),
    };
    let revision = data.get("revision_number").and_then(Value::as_u64).unwrap_or(0);
    Ok(Object { id, revision, body })
}

impl Body {
    /// Of what.
    pub const fn kind(&self) -> Kind {
        match self {
            Body::Group(_) => Kind::SecurityGroup,
            Body::Rule(_) => Kind::SecurityGroupRule,
            Body::AddressGroup(_) => Kind::AddressGroup,
            Body::Port(_) => Kind::Port,
        }
    }
}

fn group(id: &str, data: &Map<String, Value>) -> Result<Group, Refused> {
    let rules = match data.get("rules") {
        None | Some(Value::Null) => None,
        Some(_) => Some(objects(data, "rules", || format!("security group {id}"))?),
    };
    let of_rule = |primitive: &&Value| read(primitive);
    let rules = rules.map(|rules| rules.iter().map(of_rule).collect::<Result<Vec<_>, _>>()).transpose()?;
    let stray = |object: &&Object| !matches!(&object.body, Body::Rule(rule) if rule.group == id);
    if let Some(stray) = rules.iter().flatten().find(stray) {
        let reason = format!("{} is no rule of it", stray.id);
        return Err(Refused::new(format!("security group {id}"), "rules", reason));
    }
    Ok(Group { head: Value::Object(chosen(data, &["id", "name", "stateful"])).to_string(), rules })
}

fn rule(id: &str, data: &Map<String, Value>) -> Result<Rule, Refused> {
    let text = |field| data.get(field).and_then(Value::as_str).map(str::to_owned);
    let Some(group) = text("security_group_id") else {
        let found = kind(data.get("security_group_id"));
        return Err(Refused::new(format!("rule {id}"), "security_group_id", format!("is {found}")));
    };
    // `normalized_cidr` is `remote_ip_prefix` without host bits, which the document takes, too.
    const FIELDS: [&str; 10] = [
        "id",
        "security_group_id",
        "direction",
        "ethertype",
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_ip_prefix",
        "remote_group_id",
        "remote_address_group_id",
    ];
    let document = Value::Object(chosen(data, &FIELDS)).to_string();
    let (remote_group, remote_address_group) = (text("remote_group_id"), text("remote_address_group_id"));
    Ok(Rule { group, document, remote_group, remote_address_group })
}

fn address_group(id: &str, data: &Map<String, Value>) -> Result<String, Refused> {
    let mut document = chosen(data, &["id", "name"]);
    let addresses = nested(data, "addresses", || format!("address group {id}"))?;
    let addresses: Vec<Value> =
        addresses.into_iter().map(|address| address.get("address").cloned().unwrap_or_default()).collect();
    document.insert("addresses".to_owned(), addresses.into());
    Ok(Value::Object(document).to_string())
}

fn port(id: &str, data: &Map<String, Value>) -> Result<Port, Refused> {
    let object = || format!("port {id}");
    let mut document = chosen(data, &["id", "network_id", "mac_address", "device_owner"]);
    let list = |of: Vec<&Map<String, Value>>, fields: &[&str]| -> Value {
        of.into_iter().map(|data| Value::Object(chosen(data, fields))).collect()
    };
    document.insert("fixed_ips".to_owned(), list(nested(data, "fixed_ips", object)?, &["ip_address"]));
    let pairs = list(nested(data, "allowed_address_pairs", object)?, &["ip_address", "mac_address"]);
    document.insert("allowed_address_pairs".to_owned(), pairs);
    let groups = data.get("security_group_ids").cloned().unwrap_or_default();
    let carried =
        groups.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    document.insert("security_groups".to_owned(), groups);
    if let Some(security) = data.get("security").filter(|security| !security.is_null()) {
        // Without it, a port is filtered: `getattr(port_obj.security, 'port_security_enabled', True)` (`neutron/agent/rpc.py`).
        let enabled = fields(security, "security", object)?.get("port_security_enabled").cloned();
        document.insert("port_security_enabled".to_owned(), enabled.unwrap_or_default());
    }
    let (active, mut hosts) = hosts(data, object)?;
    if let Some(host) = active {
        document.insert("binding:host_id".to_owned(), json!(host));
        hosts.retain(|other| *other != host);
        hosts.insert(0, host);
    }
    Ok(Port { document: Value::Object(document).to_string(), groups: carried, hosts })
}

/// The host of the active binding, and those of all bindings, sorted. A port that is not bound has a binding to a host without a name.
fn hosts(
    data: &Map<String, Value>,
    object: impl Fn() -> String + Copy,
) -> Result<(Option<String>, Vec<String>), Refused> {
    let (mut active, mut hosts) = (None, Vec::new());
    // The port of a distributed router is bound by these alone, one for each host.
    for list in ["bindings", "distributed_bindings"] {
        for binding in nested(data, list, object)? {
            let text = |field| binding.get(field).and_then(Value::as_str).unwrap_or_default();
            let host = text("host");
            if host.is_empty() {
                continue;
            }
            if list == "bindings" && text("status") == "ACTIVE" {
                active = Some(host.to_owned());
            }
            hosts.push(host.to_owned());
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    Ok((active, hosts))
}

/// Some of an object's fields as they are.
fn chosen(data: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), data.get(*name)?.clone()))).collect()
}

/// The fields of a primitive.
fn fields<'v>(
    primitive: &'v Value,
    field: &str,
    object: impl Fn() -> String,
) -> Result<&'v Map<String, Value>, Refused> {
    let data = primitive.get("versioned_object.data");
    let reason = || format!("its versioned_object.data is {}, not an object", kind(data));
    data.and_then(Value::as_object).ok_or_else(|| Refused::new(object(), field, reason()))
}

/// The primitives that a list holds; null and absent are an empty one, and one that is no list is a list of one (`distributed_bindings`).
fn objects<'v>(
    data: &'v Map<String, Value>,
    field: &str,
    object: impl Fn() -> String,
) -> Result<Vec<&'v Value>, Refused> {
    match data.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list.iter().collect()),
        Some(one @ Value::Object(_)) => Ok(vec![one]),
        other => Err(Refused::new(object(), field, format!("is {}, not a list", kind(other)))),
    }
}

fn nested<'v>(
    data: &'v Map<String, Value>,
    field: &str,
    object: impl Fn() -> String + Copy,
) -> Result<Vec<&'v Map<String, Value>>, Refused> {
    objects(data, field, object)?.into_iter().map(|primitive| fields(primitive, field, object)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn primitive(name: &str, data: Value) -> Value {
        json!({"versioned_object.name": name, "versioned_object.namespace": "versionedobjects",
               "versioned_object.version": "1.0", "versioned_object.data": data})
    }

    fn pushed(text: &str) -> Object {
        let sample: Value = serde_json::from_str(text).unwrap();
        read(&sample["decoded_oslo.message"]["args"]["resource_list"][0]).unwrap()
    }

    fn check(text: &str, expected: &Expect) {
        let Object { id, revision, body } = pushed(text);
        let said = match body {
            Body::AddressGroup(document) => document,
            Body::Rule(rule) => {
                format!("{}\n{:?} {:?}", rule.document, rule.remote_group, rule.remote_address_group)
            }
            Body::Port(port) => format!("{}\n{:?} {:?}", port.document, port.groups, port.hosts),
            Body::Group(group) => {
                format!("{}\n{} rules", group.head, group.rules.map_or(0, |rules| rules.len()))
            }
        };
        expected.assert_eq(&format!("{id} {revision}\n{said}"));
    }

    #[test]
    fn captured_objects_in_the_apis_words() {
        check(
            include_str!("../../tests/data/rpc/push_Port_updated.json"),
            &expect![[r#"
            3629c47d-80c6-4ef1-acf0-1d86340f54af 4
            {"id":"3629c47d-80c6-4ef1-acf0-1d86340f54af","network_id":"e901ed46-2714-4332-99d0-12de5062bd49","mac_address":"fa:16:3e:1f:1f:67","device_owner":"compute:nova","fixed_ips":[{"ip_address":"10.1.0.152"},{"ip_address":"fd00:1::f816:3eff:fe1f:1f67"}],"allowed_address_pairs":[{"ip_address":"10.8.0.5","mac_address":"fa:16:3e:00:00:99"},{"ip_address":"10.9.0.0/24","mac_address":"fa:16:3e:1f:1f:67"}],"security_groups":["149ee133-6d50-4f05-b3ee-d00e1a451678"],"port_security_enabled":true,"binding:host_id":"nsvhost"}
            ["149ee133-6d50-4f05-b3ee-d00e1a451678"] ["nsvhost"]"#]],
        );
        check(
            include_str!("../../tests/data/rpc/push_SecurityGroup_updated.json"),
            &expect![[r#"
            149ee133-6d50-4f05-b3ee-d00e1a451678 10
            {"id":"149ee133-6d50-4f05-b3ee-d00e1a451678","name":"web2","stateful":true}
            8 rules"#]],
        );
        check(
            include_str!("../../tests/data/rpc/push_SecurityGroupRule_updated.json"),
            &expect![[r#"
            c33d9c55-7a60-474f-9f05-12ab792c8051 0
            {"id":"c33d9c55-7a60-474f-9f05-12ab792c8051","security_group_id":"149ee133-6d50-4f05-b3ee-d00e1a451678","direction":"ingress","ethertype":"IPv4","protocol":"tcp","port_range_min":22,"port_range_max":22,"remote_address_group_id":"f167fa14-c501-4275-9e8c-efe44b74cf7c"}
            None Some("f167fa14-c501-4275-9e8c-efe44b74cf7c")"#]],
        );
        check(
            include_str!("../../tests/data/rpc/push_AddressGroup_updated_ag2_1744.json"),
            &expect![[r#"
            8eb356b8-5523-4024-8c0b-2f5334000a1e 1
            {"id":"8eb356b8-5523-4024-8c0b-2f5334000a1e","name":"ag2","addresses":["203.0.113.0/24"]}"#]],
        );
    }

    fn port_of(data: Value) -> Port {
        match read(&primitive("Port", data)).unwrap().body {
            Body::Port(port) => port,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_port_is_bound_to_all_hosts_and_active_on_one() {
        let binding =
            |host: &str, status: &str| primitive("PortBinding", json!({"host": host, "status": status}));
        let port = port_of(
            json!({"id": "p", "bindings": [binding("b", "INACTIVE"), binding("c", "ACTIVE"), binding("a", "INACTIVE")]}),
        );
        assert_eq!(port.hosts, ["c", "a", "b"]);
        assert!(port.document.contains(r#""binding:host_id":"c""#), "{}", port.document);
        let unbound = port_of(json!({"id": "p", "bindings": [binding("", "ACTIVE")]}));
        assert!(unbound.hosts.is_empty() && !unbound.document.contains("host_id"));
        let router = primitive("DistributedPortBinding", json!({"host": "d", "status": "DOWN"}));
        assert_eq!(port_of(json!({"id": "p", "distributed_bindings": router})).hosts, ["d"]);
    }

    #[test]
    fn port_security_is_on_unless_it_is_off() {
        for security in [json!(null), primitive("PortSecurity", json!({"port_security_enabled": true}))] {
            assert!(!port_of(json!({"id": "p", "security": security})).document.contains("false"));
        }
        let off = primitive("PortSecurity", json!({"port_security_enabled": false}));
        assert!(
            port_of(json!({"id": "p", "security": off}))
                .document
                .contains(r#""port_security_enabled":false"#)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let said = |name: &str, data: Value| read(&primitive(name, data)).unwrap_err().to_string() + "\n";
        let all = [
            said("Trunk", json!({"id": "t"})),
            said("Port", json!(null)),
            said("Port", json!({})),
            said("Port", json!({"id": "p", "fixed_ips": 1})),
            said("Port", json!({"id": "p", "fixed_ips": [1]})),
            said("Port", json!({"id": "p", "security": true})),
            said("SecurityGroupRule", json!({"id": "r"})),
            said("SecurityGroup", json!({"id": "g", "rules": [{}]})),
            said(
                "SecurityGroup",
                json!({"id": "g", "rules": [primitive("SecurityGroupRule", json!({"id": "r", "security_group_id": "h"}))]}),
            ),
            said("AddressGroup", json!({"id": "a", "addresses": "10.0.0.0/8"})),
        ];
        expect![[r#"
            message of Neutron: versioned_object.name: "Trunk" is no object that was asked for
            message of Neutron: versioned_object.data: of a port: is null, not an object
            message of Neutron: id: of a port: is missing
            port p: fixed_ips: is a number, not a list
            port p: fixed_ips: its versioned_object.data is missing, not an object
            port p: security: its versioned_object.data is missing, not an object
            rule r: security_group_id: is missing
            message of Neutron: versioned_object.name: "" is no object that was asked for
            security group g: rules: r is no rule of it
            address group a: addresses: is other text, not a list
        "#]]
        .assert_eq(&all.concat());
    }
}
