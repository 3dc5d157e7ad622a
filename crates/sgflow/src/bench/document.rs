//! A policy as the document that says it, for a process that reads one.

use policy::{Policy, Port, Remote, Rule, Service};
use serde_json::{Value, json};

/// Security groups and ports; the policies that are measured have no address groups.
pub(super) fn of(policy: &Policy) -> Value {
    let groups = policy.groups.values().map(|group| {
        let rules: Vec<Value> = group.rules.iter().map(rule).collect();
        json!({"id": group.id.to_string(), "name": group.name, "stateful": group.stateful, "security_group_rules": rules})
    });
    json!({
        "security_groups": groups.collect::<Vec<_>>(),
        "ports": policy.ports.values().map(|held| port(held)).collect::<Vec<_>>(),
    })
}

fn rule(rule: &Rule) -> Value {
    let mut object = json!({
        "id": rule.id.to_string(), "direction": rule.direction.to_string(), "ethertype": rule.ethertype.to_string(),
    });
    match rule.service {
        Service::Any => {}
        Service::Ports { protocol, range } => {
            object["protocol"] = protocol.to_string().into();
            if let Some(range) = range {
                object["port_range_min"] = range.min.into();
                object["port_range_max"] = range.max.into();
            }
        }
        Service::Icmp { icmp_type, code } => {
            object["protocol"] = "icmp".into();
            object["port_range_min"] = icmp_type.into();
            object["port_range_max"] = code.into();
        }
        Service::Protocol(number) => object["protocol"] = number.into(),
    }
    match &rule.remote {
        Remote::Any => {}
        Remote::Prefix(prefix) => object["remote_ip_prefix"] = prefix.to_string().into(),
        Remote::Group(group) => object["remote_group_id"] = group.to_string().into(),
        Remote::AddressGroup(group) => object["remote_address_group_id"] = group.to_string().into(),
    }
    object
}

fn port(port: &Port) -> Value {
    let ips: Vec<Value> = port.fixed_ips.iter().map(|ip| json!({"ip_address": ip})).collect();
    let groups: Vec<String> = port.security_groups.iter().map(ToString::to_string).collect();
    json!({
        "id": port.id.to_string(), "network_id": port.network_id.to_string(), "mac_address": port.mac.to_string(),
        "fixed_ips": ips, "security_groups": groups, "port_security_enabled": port.port_security_enabled,
        "device_owner": port.device_owner,
    })
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Scenario, Shape};

    #[test]
    fn a_document_says_the_policy_that_it_was_made_of() {
        for shape in [Shape::Default, Shape::Rich] {
            let policy = Scenario { shape, ports: 5, members: 40 }.policy();
            let text = super::of(&policy).to_string();
            let parsed = policy::document::parse(&[("bench.json", &text)], None);
            assert_eq!(parsed.diagnostics, []);
            assert!(parsed.policy.groups == policy.groups, "{shape:?}");
            assert!(parsed.policy.ports == policy.ports, "{shape:?}");
        }
    }
}
