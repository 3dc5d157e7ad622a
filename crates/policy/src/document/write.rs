//! A policy written down: what [`super::parse`] reads back.

use serde_json::{Map, Value, json};

use crate::{AddressGroup, AddressPair, Policy, Port, Remote, Rule, SecurityGroup, Service};

/// The policy as a document, in the words of the API. Fields that say nothing are left out.
pub fn write(policy: &Policy) -> Value {
    json!({
        "security_groups": policy.groups.values().map(|group| write_group(group)).collect::<Value>(),
        "address_groups": policy.address_groups.values().map(|group| write_address_group(group)).collect::<Value>(),
        "ports": policy.ports.values().map(|port| write_port(port)).collect::<Value>(),
    })
}

/// A security group with its rules.
pub fn write_group(group: &SecurityGroup) -> Value {
    let rules: Value = group.rules.iter().map(write_rule).collect();
    json!({"id": group.id.as_str(), "name": group.name, "stateful": group.stateful, "security_group_rules": rules})
}

/// A rule, without the group it is of.
pub fn write_rule(rule: &Rule) -> Value {
    let mut object = json!({
        "id": rule.id.as_str(), "direction": rule.direction.to_string(), "ethertype": rule.ethertype.to_string(),
    });
    let (protocol, range) = match rule.service {
        Service::Any => (None, None),
        Service::Ports { protocol, range } => {
            (Some(protocol.to_string()), range.map(|range| (json!(range.min), json!(range.max))))
        }
        Service::Icmp { icmp_type, code } => (Some("icmp".to_owned()), Some((json!(icmp_type), json!(code)))),
        Service::Protocol(number) => (Some(number.to_string()), None),
    };
    let mut put = |field: &str, value: Value| {
        if !value.is_null() {
            object[field] = value;
        }
    };
    put("protocol", json!(protocol));
    let (min, max) = range.unwrap_or_default();
    put("port_range_min", min);
    put("port_range_max", max);
    match &rule.remote {
        Remote::Any => {}
        Remote::Prefix(prefix) => put("remote_ip_prefix", json!(prefix.to_string())),
        Remote::Group(id) => put("remote_group_id", json!(id.as_str())),
        Remote::AddressGroup(id) => put("remote_address_group_id", json!(id.as_str())),
    }
    object
}

/// An address group.
pub fn write_address_group(group: &AddressGroup) -> Value {
    let addresses: Value = group.addresses.iter().map(ToString::to_string).collect();
    json!({"id": group.id.as_str(), "name": group.name, "addresses": addresses})
}

/// A port.
pub fn write_port(port: &Port) -> Value {
    let fixed_ips: Value = port.fixed_ips.iter().map(|ip| json!({"ip_address": ip})).collect();
    let pairs: Value = port.allowed_address_pairs.iter().map(write_pair).collect();
    let groups: Value = port.security_groups.iter().map(|id| id.as_str()).collect();
    let mut object = json!({
        "id": port.id.as_str(), "network_id": port.network_id.as_str(), "mac_address": port.mac.to_string(),
        "fixed_ips": fixed_ips, "allowed_address_pairs": pairs, "security_groups": groups,
        "port_security_enabled": port.port_security_enabled, "device_owner": port.device_owner,
    });
    if let Some(host) = &port.host {
        object["binding:host_id"] = json!(host);
    }
    object
}

fn write_pair(AddressPair { ip, mac }: &AddressPair) -> Value {
    let mut object = Map::from_iter([("ip_address".to_owned(), json!(ip.to_string()))]);
    object.extend(mac.map(|mac| ("mac_address".to_owned(), json!(mac.to_string()))));
    Value::Object(object)
}
