//! Worlds in which every port forwards for others: members bound to their MAC, which chance alone makes meet too seldom, and UDP
//! by port.

use policy::evaluator::{Payload, Transport};
use policy::{AddressPair, PortProtocol, PortRange, Service};

use super::play::Step;
use super::policies::{Edit, GROUPS, PortSpec, RemoteSpec, RuleSpec, World};

/// Prefixes short enough to be bound, in each family.
const SHORT: [&str; 2] = ["8.0.0.0/5", "2000::/3"];

/// The same world, but each port is a router; what happens in it likewise.
pub(crate) fn of_routers((mut world, mut steps): (World, Vec<Step>)) -> (World, Vec<Step>) {
    world.groups.iter_mut().flat_map(|group| &mut group.rules).for_each(between_routers);
    world.ports.iter_mut().flatten().for_each(forwards);
    for step in &mut steps {
        match step {
            Step::Send(sent) => {
                if let Payload::Ip(packet) = &mut sent.frame.payload {
                    packet.protocol = PortProtocol::Udp.number();
                    match &mut packet.transport {
                        Transport::Ports { tcp_flags, .. } => *tcp_flags = 0,
                        Transport::Icmp { .. } => {
                            packet.transport = Transport::Ports { src: 1024, dst: 80, tcp_flags: 0 };
                        }
                        Transport::None => {}
                    }
                }
            }
            Step::Edit(Edit::Group(_, group)) => group.rules.iter_mut().for_each(between_routers),
            Step::Edit(Edit::AddRule(_, rule)) => between_routers(rule),
            Step::Edit(Edit::Port(_, port)) => port.iter_mut().for_each(forwards),
            _ => {}
        }
    }
    (world, steps)
}

fn between_routers(rule: &mut RuleSpec) {
    const WELL_KNOWN: PortRange = PortRange { min: 0, max: 1023 };
    let range = match rule.service {
        Service::Any => None,
        Service::Ports { range, .. } => range,
        Service::Icmp { .. } | Service::Protocol(_) => Some(WELL_KNOWN),
    };
    rule.service = Service::Ports { protocol: PortProtocol::Udp, range };
    if let RemoteSpec::Prefix(n) = rule.remote {
        rule.remote = RemoteSpec::Group(usize::from(n) % GROUPS);
    }
}

fn forwards(port: &mut PortSpec) {
    for prefix in SHORT {
        port.pairs.insert(AddressPair { ip: prefix.parse().expect("a prefix"), mac: None });
    }
}
