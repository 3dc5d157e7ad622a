//! The VMs of the demo: one a port of the document.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use lab::{Mac, Ovs, TcpServer, UdpEcho, Vm, VmSpec};
use policy::{MacAddr, NetworkId, Policy, PortId};

/// The first network's VLAN; the others follow in steps of ten.
const FIRST_VLAN: u16 = 10;

/// Ports on which every VM listens.
pub(crate) const TCP_PORTS: [u16; 3] = [22, 80, 5432];
pub(crate) const UDP_PORTS: [u16; 1] = [53];

/// A VM and what the policy says of its port.
pub(crate) struct Guest {
    pub(crate) id: PortId,
    pub(crate) mac: MacAddr,
    pub(crate) vlan: u16,
    pub(crate) vm: Vm,
}

impl Guest {
    /// The guest's address of the family of `like`.
    pub(crate) fn address(&self, ipv6: bool) -> anyhow::Result<IpAddr> {
        let address = if ipv6 { self.vm.ipv6() } else { self.vm.ipv4() };
        address.with_context(|| format!("{} has no such address", self.id))
    }
}

/// All of them, in the order of the document.
pub(crate) struct Guests {
    guests: Vec<Guest>,
    networks: BTreeMap<NetworkId, u16>,
}

/// What the VMs serve, as long as it is kept.
pub(crate) struct Services {
    _tcp: Vec<TcpServer>,
    _udp: Vec<UdpEcho>,
}

impl Guests {
    pub(crate) fn plug(ovs: &Ovs, policy: &Policy) -> anyhow::Result<Self> {
        let ids: std::collections::BTreeSet<&NetworkId> =
            policy.ports.values().map(|p| &p.network_id).collect();
        let networks: BTreeMap<NetworkId, u16> =
            ids.into_iter().cloned().zip((FIRST_VLAN..).step_by(10)).collect();
        let mut guests = Vec::new();
        for port in policy.ports.values() {
            let vlan = networks[&port.network_id];
            let mut spec = VmSpec::new(port.id.as_str(), port.id.as_str(), Mac(port.mac.octets())).tag(vlan);
            for ip in &port.fixed_ips {
                let length = if ip.is_ipv4() { 24 } else { 64 };
                spec = spec.address(&format!("{ip}/{length}"))?;
            }
            guests.push(Guest { id: port.id.clone(), mac: port.mac, vlan, vm: ovs.add_vm(spec)? });
        }
        Ok(Guests { guests, networks })
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Guest> {
        self.guests.iter()
    }

    pub(crate) fn get(&self, id: &str) -> anyhow::Result<&Guest> {
        self.iter().find(|guest| guest.id.as_str() == id).with_context(|| format!("the demo has no VM {id}"))
    }

    pub(crate) fn len(&self) -> usize {
        self.guests.len()
    }

    pub(crate) fn networks(&self) -> usize {
        self.networks.len()
    }

    pub(crate) fn describe(&self) -> String {
        let on = |vlan: u16| {
            let names = self.iter().filter(|guest| guest.vlan == vlan).map(|guest| guest.id.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let networks = self.networks.iter().map(|(id, vlan)| format!("{} on {id} (VLAN {vlan})", on(*vlan)));
        networks.collect::<Vec<_>>().join("; ")
    }

    /// Starts every service on every VM, on both families.
    pub(crate) fn serve(&self) -> anyhow::Result<Services> {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for guest in self.iter() {
            for ipv6 in [false, true] {
                let own = guest.address(ipv6)?;
                for port in TCP_PORTS {
                    tcp.push(guest.vm.listen_tcp(SocketAddr::new(own, port))?);
                }
                for port in UDP_PORTS {
                    udp.push(guest.vm.echo_udp(SocketAddr::new(own, port))?);
                }
            }
        }
        Ok(Services { _tcp: tcp, _udp: udp })
    }
}
