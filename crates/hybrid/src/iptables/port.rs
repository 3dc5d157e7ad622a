//! The chains of a port, and those that lead to it.

use policy::Direction;

use super::{Chain, PREFIX, group_kind};
use crate::dialect::PortChains;
use crate::firewall::BUCKETS;
use crate::mark;

/// The name of a port's chain of one direction, as Neutron's: `i` is into the port.
pub(super) fn chain(name: &str, direction: Direction) -> String {
    let kind = match direction {
        Direction::Ingress => 'i',
        Direction::Egress => 'o',
    };
    format!("{PREFIX}{kind}{name}")
}

/// A port's rules in `filter`.
pub(super) fn filter(port: &PortChains, direction: Direction) -> Chain {
    let mut chain = jumps(&port.stateful, direction);
    chain.push(format!("-j {PREFIX}sg-fallback"));
    chain
}

/// A port's rules in `raw`.
pub(super) fn raw(port: &PortChains, direction: Direction) -> Chain {
    jumps(&port.stateless, direction)
}

fn device(port: &PortChains, direction: Direction) -> String {
    match direction {
        Direction::Ingress => format!("--physdev-out {}", port.devices.tap()),
        Direction::Egress => format!("--physdev-in {}", port.devices.tap()),
    }
}

fn jumps(groups: &[String], direction: Direction) -> Chain {
    let kind = group_kind(direction);
    groups.iter().map(|group| format!("-j {PREFIX}{kind}{group}")).collect()
}

/// The rules that lead from the many to those whose zone has the same remainder, one for each of these.
pub(super) fn bucket_jumps(buckets: impl Iterator<Item = u16>, chain: &str) -> Chain {
    let jump = |bucket: u16| {
        format!(
            "-m mark --mark {:#x}/{:#x} -j {PREFIX}{chain}-{bucket}",
            mark::SIGNATURE | u32::from(bucket),
            mark::SIGNATURE_MASK | u32::from(BUCKETS - 1)
        )
    };
    buckets.map(jump).collect()
}

/// Where packets of some ports find theirs, in `filter`.
pub(super) fn filter_bucket(ports: &[&PortChains]) -> Chain {
    let both = |port: &&PortChains| {
        [Direction::Ingress, Direction::Egress].map(|direction| {
            let device = device(port, direction);
            let chain = chain(&port.name, direction);
            format!("-m physdev {device} --physdev-is-bridged -j {chain}")
        })
    };
    ports.iter().flat_map(both).collect()
}

/// Where packets of ports with stateless groups find these, in `raw`, and what they do not admit its zone. Where a packet is bound for is not
/// known yet: the mark says which way it goes.
pub(super) fn raw_bucket(ports: &[&PortChains]) -> Chain {
    let mut lines = Chain::new();
    for port in ports.iter().filter(|port| !port.stateless.is_empty()) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let value = mark::of(port.zone, direction);
            lines.push(format!(
                "-m mark --mark {value:#x}/{:#x} -j {}",
                mark::PORT_MASK,
                chain(&port.name, direction)
            ));
        }
        if !port.stateful.is_empty() {
            let zone = port.zone;
            let value = mark::SIGNATURE | u32::from(zone);
            let mask = mark::SIGNATURE_MASK | mark::ZONE;
            lines.push(format!("-m mark --mark {value:#x}/{mask:#x} -j CT --zone {zone}"));
        }
    }
    lines
}
