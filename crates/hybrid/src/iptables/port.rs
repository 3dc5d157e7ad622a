//! The chains of a port, and those that lead to it.

use policy::Direction;

use super::{Chain, PREFIX, group_kind};
use crate::bridge::Tracking;
use crate::device::Devices;
use crate::mark;

/// So many ways lead on from where all packets come by.
pub(crate) const BUCKETS: u16 = 64;

/// Which of them leads to the port of a zone.
pub(crate) fn bucket(zone: u16) -> u16 {
    zone % BUCKETS
}

/// What is said of one port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PortChains {
    pub(crate) devices: Devices,
    pub(crate) zone: u16,
    /// Ends the names of its chains.
    pub(crate) name: String,
    /// The ends of the names of its groups' chains, of those that track connections.
    pub(crate) stateful: Vec<String>,
    /// And of those that do not.
    pub(crate) stateless: Vec<String>,
}

impl PortChains {
    /// The name of its chain of one direction, as Neutron's: `i` is into the port.
    pub(crate) fn chain(&self, direction: Direction) -> String {
        let kind = match direction {
            Direction::Ingress => 'i',
            Direction::Egress => 'o',
        };
        format!("{PREFIX}{kind}{}", self.name)
    }

    /// How its packets are tracked.
    pub(crate) fn tracking(&self) -> Tracking {
        match (self.stateful.is_empty(), self.stateless.is_empty()) {
            (true, _) => Tracking::None,
            (false, true) => Tracking::All,
            (false, false) => Tracking::Some,
        }
    }

    /// Its rules in `filter`.
    pub(crate) fn filter(&self, direction: Direction) -> Chain {
        let mut chain = jumps(&self.stateful, direction);
        chain.push(format!("-j {PREFIX}sg-fallback"));
        chain
    }

    /// Its rules in `raw`.
    pub(crate) fn raw(&self, direction: Direction) -> Chain {
        jumps(&self.stateless, direction)
    }

    fn device(&self, direction: Direction) -> String {
        match direction {
            Direction::Ingress => format!("--physdev-out {}", self.devices.tap()),
            Direction::Egress => format!("--physdev-in {}", self.devices.tap()),
        }
    }
}

fn jumps(groups: &[String], direction: Direction) -> Chain {
    let kind = group_kind(direction);
    groups.iter().map(|group| format!("-j {PREFIX}{kind}{group}")).collect()
}

/// The rules that lead from the many to those whose zone has the same remainder, one for each of these.
pub(crate) fn bucket_jumps(buckets: impl Iterator<Item = u16>, chain: &str) -> Chain {
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
pub(crate) fn filter_bucket<'p>(ports: impl Iterator<Item = &'p PortChains>) -> Chain {
    let both = |port: &PortChains| {
        [Direction::Ingress, Direction::Egress].map(|direction| {
            let device = port.device(direction);
            let chain = port.chain(direction);
            format!("-m physdev {device} --physdev-is-bridged -j {chain}")
        })
    };
    ports.flat_map(both).collect()
}

/// Where packets of ports with stateless groups find these, in `raw`, and what they do not admit its zone. Where a packet is bound for is not
/// known yet: the mark says which way it goes.
pub(crate) fn raw_bucket<'p>(ports: impl Iterator<Item = &'p PortChains>) -> Chain {
    let mut chain = Chain::new();
    for port in ports.filter(|port| !port.stateless.is_empty()) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let value = mark::of(port.zone, direction);
            chain.push(format!(
                "-m mark --mark {value:#x}/{:#x} -j {}",
                mark::PORT_MASK,
                port.chain(direction)
            ));
        }
        if port.tracking() == Tracking::Some {
            let zone = port.zone;
            let value = mark::SIGNATURE | u32::from(zone);
            let mask = mark::SIGNATURE_MASK | mark::ZONE;
            chain.push(format!("-m mark --mark {value:#x}/{mask:#x} -j CT --zone {zone}"));
        }
    }
    chain
}
