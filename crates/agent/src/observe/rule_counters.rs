//! What rules of iptables have counted, as `iptables-save -c` prints them. Pure.

use std::collections::{BTreeMap, HashMap};

use hybrid::drops::IPTABLES_ENDS;
use hybrid::iptables::PREFIX;
use policy::Direction;

use super::book::Count;

/// What the rules of one family that drop have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RuleCounters {
    /// By reason, of all.
    pub(super) reasons: BTreeMap<&'static str, Count>,
    /// What no rule of a port's groups admits, by the guest's device and the way.
    pub(super) devices: BTreeMap<(String, Direction), Count>,
}

impl RuleCounters {
    /// Reads what is printed of `filter`; lines that are not of ours, or not understood, count nothing.
    pub(super) fn read(text: &str) -> Self {
        let mut read = RuleCounters::default();
        // What stands at the end of a port's chain, and whose chain it is.
        let mut ends: HashMap<&str, Count> = HashMap::new();
        let mut of_port: HashMap<&str, (&str, Direction)> = HashMap::new();
        for line in text.lines() {
            let Some((count, chain, rule)) = counted(line) else { continue };
            let Some(name) = chain.strip_prefix(PREFIX) else { continue };
            if let Some((_, reason)) = IPTABLES_ENDS.iter().find(|(end, _)| *end == name)
                && rule == "-j DROP"
            {
                *read.reasons.entry(reason).or_default() += count;
            } else if let Some((device, way, to)) = led_to_port(rule) {
                of_port.insert(to, (device, way));
            } else if rule.strip_prefix("-j ").and_then(|to| to.strip_prefix(PREFIX)) == Some("sg-fallback") {
                ends.insert(chain, count);
            }
        }
        for (chain, (device, way)) in of_port {
            if let Some(count) = ends.get(chain) {
                *read.devices.entry((device.to_owned(), way)).or_default() += *count;
            }
        }
        read
    }
}

/// `[packets:bytes] -A chain rule`.
fn counted(line: &str) -> Option<(Count, &str, &str)> {
    let (count, rest) = line.strip_prefix('[')?.split_once("] -A ")?;
    let (packets, bytes) = count.split_once(':')?;
    let (chain, rule) = rest.split_once(' ')?;
    Some((Count { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? }, chain, rule))
}

/// The rule by which packets of a device find the chain of their port.
fn led_to_port(rule: &str) -> Option<(&str, Direction, &str)> {
    let words: Vec<&str> = rule.split(' ').collect();
    let ["-m", "physdev", which, device, "--physdev-is-bridged", "-j", to] = words[..] else { return None };
    let way = match which {
        "--physdev-in" => Direction::Egress,
        "--physdev-out" => Direction::Ingress,
        _ => return None,
    };
    Some((device, way, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_drop_are_counted_by_device_and_reason() {
        let text = "\
*filter
:FORWARD ACCEPT [7:700]
:neutron-openvswi-ip-2 - [0:0]
[9:900] -A FORWARD -j neutron-openvswi-FORWARD
[3:300] -A neutron-openvswi-sg-chain -m connmark --mark 0x2/0x2 -j neutron-openvswi-sg-revoked
[6:600] -A neutron-openvswi-sg-1 -m physdev --physdev-out tapp-2 --physdev-is-bridged -j neutron-openvswi-ip-2
[1:100] -A neutron-openvswi-sg-1 -m physdev --physdev-in tapp-2 --physdev-is-bridged -j neutron-openvswi-op-2
[2:200] -A neutron-openvswi-ip-2 -j neutron-openvswi-Iin
[5:500] -A neutron-openvswi-ip-2 -j neutron-openvswi-sg-fallback
[1:100] -A neutron-openvswi-op-2 -j neutron-openvswi-sg-fallback
[1:100] -A neutron-openvswi-sg-chain -j neutron-openvswi-sg-fallback
[4:400] -A neutron-openvswi-sg-fallback -m limit --limit 10/sec -j NFLOG --nflog-group 21351
[7:700] -A neutron-openvswi-sg-fallback -j DROP
[3:300] -A neutron-openvswi-sg-revoked -j DROP
[8:800] -A others -j DROP
[broken
COMMIT
";
        let read = RuleCounters::read(text);
        let count = |packets| Count { packets, bytes: packets * 100 };
        assert_eq!(read.reasons, [("no-rule", count(7)), ("revoked", count(3))].into());
        let of = |way| ("tapp-2".to_owned(), way);
        let expected = [(of(Direction::Ingress), count(5)), (of(Direction::Egress), count(1))];
        assert_eq!(read.devices, expected.into());
    }
}
