//! The calls' arguments.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use policy::MacAddr;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Refused;

/// A batch of calls, from `filter_defer_apply_on` to `filter_defer_apply_off`; what is not in it is as it was.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Chosen by whoever tells, anew whenever all is told again.
    pub session: String,
    /// 1 for all that is known; then 2, 3, ….
    pub sequence: u64,
    /// `update_security_group_rules`: all rules of a group; none if the group is of no concern any more.
    #[serde(default)]
    pub rules: BTreeMap<String, Option<Vec<RuleDict>>>,
    /// `update_security_group_members`, by ethertype (`IPv4`, `IPv6`), of a security group or an address group; none if it is of no concern any
    /// more.
    #[serde(default)]
    pub members: BTreeMap<String, Option<BTreeMap<String, MemberChange>>>,
    /// `prepare_port_filter`, `update_port_filter`; none for `remove_port_filter` and `remove_trusted_ports`.
    #[serde(default)]
    pub ports: BTreeMap<String, Option<PortDict>>,
    /// `process_trusted_ports`.
    #[serde(default)]
    pub trusted: Vec<String>,
    /// Ports that the agent has seen on the bridge.
    #[serde(default)]
    pub expect: Vec<String>,
}

/// Members that came and went: address or prefix, and MAC (of security groups).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemberChange {
    /// Came.
    pub add: Vec<(String, Option<String>)>,
    /// Went.
    pub remove: Vec<(String, Option<String>)>,
}

/// What of a port's dictionary counts.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortDict {
    /// Of the port.
    pub network_id: String,
    /// Of the port.
    pub mac_address: String,
    /// Addresses.
    #[serde(default)]
    pub fixed_ips: Vec<String>,
    /// What it may use besides.
    #[serde(default)]
    pub allowed_address_pairs: Vec<Pair>,
    /// Ids.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Whether it is filtered.
    #[serde(default = "yes")]
    pub port_security_enabled: bool,
    /// As `compute:nova`.
    #[serde(default)]
    pub device_owner: String,
}

const fn yes() -> bool {
    true
}

/// An allowed address pair.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Address or prefix.
    pub ip_address: String,
    /// None: the port's.
    #[serde(default)]
    pub mac_address: Option<String>,
}

impl PortDict {
    /// As a policy document has it.
    pub(super) fn document(&self, id: &str) -> Value {
        let pair = |Pair { ip_address, mac_address }: &Pair| match mac_address {
            Some(mac) => json!({"ip_address": ip_address, "mac_address": mac}),
            None => json!({"ip_address": ip_address}),
        };
        let fixed_ip = |address: &String| json!({"ip_address": address});
        json!({
            "id": id,
            "network_id": self.network_id,
            "mac_address": self.mac_address,
            "fixed_ips": self.fixed_ips.iter().map(fixed_ip).collect::<Vec<Value>>(),
            "allowed_address_pairs": self.allowed_address_pairs.iter().map(pair).collect::<Vec<Value>>(),
            "security_groups": self.security_groups,
            "port_security_enabled": self.port_security_enabled,
            "device_owner": self.device_owner,
        })
    }
}

/// A rule as the agent has it: without an id, and with the remote prefix named for what it is to the packet.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(transparent)]
pub struct RuleDict(Map<String, Value>);

/// What is the same in the API's words.
const SAME: [&str; 7] = [
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_group_id",
    "remote_address_group_id",
];
/// What says nothing here: `stateful` is the group's.
const IGNORED: [&str; 2] = ["stateful", "security_group_id"];

impl RuleDict {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// What the agent says of the group with each of its rules.
    pub(super) fn stateful(&self) -> Option<bool> {
        self.0.get("stateful")?.as_bool()
    }

    pub(super) fn remote_address_group(&self) -> Option<&str> {
        self.text("remote_address_group_id")
    }

    /// The rule's name, made of what it says, and the rule as a policy document has it.
    pub(super) fn document(&self, group: &str) -> Result<(String, Value), Refused> {
        let mut name = group.to_owned();
        let mut document = Map::new();
        for key in SAME {
            let value = self.0.get(key).filter(|value| !value.is_null());
            if let Some(value) = value {
                document.insert(key.to_owned(), value.clone());
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                name = name + "/" + &text;
            }
        }
        let prefix = match self.text("direction") {
            Some("egress") => "dest_ip_prefix",
            _ => "source_ip_prefix",
        };
        if let Some(value) = self.0.get(prefix).filter(|value| !value.is_null()) {
            document.insert("remote_ip_prefix".to_owned(), value.clone());
            name = name + "/" + value.as_str().unwrap_or_default();
        }
        let is_known = |key: &str| key == prefix || SAME.contains(&key) || IGNORED.contains(&key);
        // Left out, a condition would open more than the rule says.
        if let Some((key, _)) = self.0.iter().find(|(key, value)| !is_known(key) && !value.is_null()) {
            let object = format!("rule {name} of security group {group}");
            return Err(Refused::new(object, key, "is not known of a rule"));
        }
        document.insert("id".to_owned(), Value::from(name.clone()));
        Ok((name, Value::Object(document)))
    }
}

/// A member's address and MAC; else the field and what is wrong with it.
pub(super) fn member(
    ethertype: &str,
    address: &str,
    mac: Option<&str>,
) -> Result<(IpNet, Option<MacAddr>), (&'static str, String)> {
    let net = address.parse::<IpNet>().or_else(|_| address.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| ("address", format!("{address:?} is neither an address nor a prefix")))?;
    let is_of_family = match ethertype {
        "IPv4" => net.addr().is_ipv4(),
        "IPv6" => net.addr().is_ipv6(),
        _ => return Err(("ethertype", format!("expected IPv4 or IPv6, found {ethertype:?}"))),
    };
    if !is_of_family {
        return Err(("address", format!("{address} is no address of {ethertype}")));
    }
    let mac =
        mac.map(|mac| mac.parse::<MacAddr>().map_err(|reason| ("mac_address", format!("{mac:?}: {reason}"))));
    Ok((net.trunc(), mac.transpose()?))
}
