//! A model of neutron-server: objects with revisions, pushes, and answers.

use std::collections::{BTreeMap, BTreeSet};

use policy::Policy;
use policy::document::parse;
use serde_json::{Value, json};

pub(super) fn primitive(name: &str, data: Value) -> Value {
    json!({"versioned_object.name": name, "versioned_object.namespace": "versionedobjects",
           "versioned_object.version": "1.0", "versioned_object.data": data})
}

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) revision: u64,
    /// Of the last change that was told of by the group: none is of its rules.
    pub(super) named_at: u64,
    pub(super) rules: BTreeMap<String, Rule>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) remote_group: Option<String>,
    pub(super) remote_address_group: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Port {
    pub(super) revision: u64,
    pub(super) groups: BTreeSet<String>,
    pub(super) hosts: Vec<String>,
}

/// What the server has; the addresses of ports and address groups tell their revisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) address_groups: BTreeMap<String, u64>,
    pub(super) ports: BTreeMap<String, Port>,
}

fn address(revision: u64) -> String {
    format!("10.0.{}.{}", revision / 256, revision % 256)
}

/// The revision that an address tells of.
pub(super) fn revision_of(address: &str) -> u64 {
    let octets: Vec<u64> = address.split('.').map(|octet| octet.parse().unwrap()).collect();
    octets[2] * 256 + octets[3]
}

impl Server {
    fn rule_fields(id: &str, group: &str, rule: &Rule) -> Value {
        json!({"id": id, "security_group_id": group, "direction": "ingress", "ethertype": "IPv4", "revision_number": 0,
               "remote_group_id": rule.remote_group, "remote_address_group_id": rule.remote_address_group})
    }

    pub(super) fn rule(&self, group: &str, id: &str) -> Value {
        primitive("SecurityGroupRule", Self::rule_fields(id, group, &self.groups[group].rules[id]))
    }

    pub(super) fn group(&self, id: &str) -> Value {
        let group = &self.groups[id];
        let rules: Vec<Value> = group.rules.keys().map(|rule| self.rule(id, rule)).collect();
        let name = group.named_at.to_string();
        let data = json!({"id": id, "name": name, "stateful": true, "rules": rules, "revision_number": group.revision});
        primitive("SecurityGroup", data)
    }

    pub(super) fn address_group(&self, id: &str) -> Value {
        let revision = self.address_groups[id];
        let address =
            primitive("AddressAssociation", json!({"address": address(revision), "address_group_id": id}));
        primitive(
            "AddressGroup",
            json!({"id": id, "name": id, "addresses": [address], "revision_number": revision}),
        )
    }

    pub(super) fn port(&self, id: &str) -> Value {
        let port = &self.ports[id];
        let binding = |(index, host): (usize, &String)| {
            let status = if index == 0 { "ACTIVE" } else { "INACTIVE" };
            primitive("PortBinding", json!({"host": host, "status": status}))
        };
        let bindings: Vec<Value> = port.hosts.iter().enumerate().map(binding).collect();
        let ip = primitive("IPAllocation", json!({"ip_address": address(port.revision)}));
        let data = json!({"id": id, "network_id": "n", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": [ip],
                          "security_group_ids": port.groups, "bindings": bindings, "revision_number": port.revision});
        primitive("Port", data)
    }

    /// The answer to a `bulk_pull`.
    pub(super) fn answer(&self, args: &Value) -> Value {
        let filter = &args["filter_kwargs"];
        let wanted: Option<BTreeSet<&str>> =
            filter["id"].as_array().map(|ids| ids.iter().filter_map(Value::as_str).collect());
        let is_wanted = |id: &&String| wanted.as_ref().is_none_or(|wanted| wanted.contains(id.as_str()));
        match args["resource_type"].as_str().unwrap() {
            "SecurityGroup" => self.groups.keys().filter(is_wanted).map(|id| self.group(id)).collect(),
            "AddressGroup" => {
                self.address_groups.keys().filter(is_wanted).map(|id| self.address_group(id)).collect()
            }
            _ if filter["fields"].is_array() => {
                self.ports.keys().map(|id| primitive("Port", json!({"id": id}))).collect()
            }
            _ => self.ports.keys().filter(is_wanted).map(|id| self.port(id)).collect(),
        }
    }

    /// The policy that this is, read by another way.
    pub(super) fn policy(&self) -> Policy {
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|(id, group)| {
                let rules: Vec<Value> =
                    group.rules.iter().map(|(rule, of)| Self::rule_fields(rule, id, of)).collect();
                json!({"id": id, "name": group.named_at.to_string(), "security_group_rules": rules})
            })
            .collect();
        let address_groups: Vec<Value> = self
            .address_groups
            .iter()
            .map(|(id, revision)| json!({"id": id, "name": id, "addresses": [address(*revision)]}))
            .collect();
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|(id, port)| {
                json!({"id": id, "network_id": "n", "mac_address": "fa:16:3e:00:00:01", "security_groups": port.groups,
                       "fixed_ips": [{"ip_address": address(port.revision)}], "binding:host_id": port.hosts.first()})
            })
            .collect();
        let document = json!({"security_groups": groups, "address_groups": address_groups, "ports": ports});
        let parsed = parse(&[("model", &document.to_string())], None);
        assert_eq!(parsed.diagnostics, [], "the model is sound");
        parsed.policy
    }
}
