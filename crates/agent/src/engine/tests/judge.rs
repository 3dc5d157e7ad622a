//! What frames meet in the simulated switch at every instant, and what they may meet.
//!
//! "At no instant, on the way from the old to the new policy, is a frame accepted that both refuse, or refused that both
//! accept" (semantics, "Change"). What the engine has been told of and not said to be settled is on the way: any of it may
//! be in force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use policy::evaluator::{Fragment, Frame, Host, IpPacket, Model, Payload, Settings, Transport};
use policy::{MacAddr, Policy, PortId, PortProtocol};
use rust_openflow::{Flow, PortNo};
use verify::{Connections, Packet, Tables, run};

/// A frame that the device at an OpenFlow port sends in the name of a port to a port, and the OpenFlow port where it comes
/// out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Way {
    at: u16,
    from: u16,
    to: u16,
    out: u16,
}

/// Which port is plugged in where, by number.
pub(super) type Plugged = BTreeMap<u16, u16>;

/// The judge of a host whose interfaces and ports have the numbers from 1 up to this.
#[derive(Debug)]
pub(super) struct Judge {
    count: u16,
    /// What is on the way, the latest last. Policies and devices come by different lines: each may meet each.
    policies: Vec<Policy>,
    plugged: Vec<Plugged>,
    /// What some of these admit, and what all of them do.
    may: BTreeSet<Way>,
    must: BTreeSet<Way>,
    /// Something happened that costs flows, or connections: less may be admitted until the engine settles.
    is_torn: bool,
    /// Somebody took flows out that keep frames away: more may be admitted until then.
    is_open: bool,
    connections: Connections,
    /// Ways on which frames have gone, with a connection on both sides.
    sessions: BTreeSet<Way>,
    /// So many tables were looked at.
    pub(super) looked_at: usize,
}

impl Judge {
    pub(super) fn new(count: u16) -> Self {
        Judge {
            count,
            policies: vec![Policy::default()],
            plugged: vec![Plugged::new()],
            may: BTreeSet::new(),
            must: BTreeSet::new(),
            is_torn: false,
            is_open: false,
            connections: Connections::default(),
            sessions: BTreeSet::new(),
            looked_at: 0,
        }
    }

    /// Policy or devices changed.
    pub(super) fn changed(&mut self, policy: &Policy, plugged: &Plugged) {
        let (policy, plugged) = (vec![policy.clone()], vec![plugged.clone()]);
        if self.policies.last() != policy.last() {
            self.take_in(&policy, &self.plugged.clone());
            self.policies.extend(policy);
        }
        if self.plugged.last() != plugged.last() {
            self.take_in(&self.policies.clone(), &plugged);
            self.plugged.extend(plugged);
        }
    }

    fn take_in(&mut self, policies: &[Policy], plugged: &[Plugged]) {
        for (policy, plugged) in policies.iter().flat_map(|policy| plugged.iter().map(move |p| (policy, p))) {
            let admitted = self.admitted(policy, plugged);
            self.must.retain(|way| admitted.contains(way));
            self.may.extend(admitted);
        }
    }

    /// Flows or connections are lost.
    pub(super) fn torn(&mut self) {
        self.is_torn = true;
    }

    /// Anything may be in the switch.
    pub(super) fn opened(&mut self) {
        self.is_torn = true;
        self.is_open = true;
    }

    /// The tracker of the switch begins anew.
    pub(super) fn forget(&mut self) {
        self.torn();
        self.connections = Connections::default();
    }

    pub(super) fn flush(&mut self, zone: u16) {
        self.connections.flush(zone);
    }

    /// The engine has said that it is done, and knows everything. Whether something is refused, it says itself.
    pub(super) fn settled<'f>(
        &mut self,
        flows: impl Iterator<Item = &'f Flow>,
        refused: bool,
    ) -> Result<(), String> {
        self.policies.drain(..self.policies.len() - 1);
        self.plugged.drain(..self.plugged.len() - 1);
        self.may = self.admitted(&self.policies[0], &self.plugged[0]);
        self.must.clone_from(&self.may);
        self.is_torn = refused;
        self.is_open = false;
        self.look(flows)
    }

    /// Looks at what the switch does now to first frames, and to those of connections that are there.
    pub(super) fn look<'f>(&mut self, flows: impl Iterator<Item = &'f Flow>) -> Result<(), String> {
        let tables = Tables::new(flows.cloned()).map_err(|refused| refused.to_string())?;
        self.looked_at += 1;
        for (at, from, to) in self.probes() {
            let first = delivered(&tables, at, from, to, &mut Connections::default())?;
            let known = delivered(&tables, at, from, to, &mut self.connections.clone())?;
            // Who began a conversation with whom decides what goes on: see `traffic`.
            let known = Some(("a frame", &known)).filter(|_| from < to);
            for (what, outs) in [("a first frame", &first)].into_iter().chain(known) {
                for out in 1..=self.count {
                    let way = Way { at, from, to, out };
                    let is_admitted = outs.contains(&out);
                    if is_admitted && !self.is_open && !self.may.contains(&way) {
                        return Err(format!(
                            "{what} of {way:?} passes, and none of the policies on the way admits it"
                        ));
                    }
                    if !is_admitted && !self.is_torn && self.must.contains(&way) {
                        return Err(format!(
                            "{what} of {way:?} is lost, and all policies on the way admit it"
                        ));
                    }
                }
            }
        }
        for way in self.sessions.intersection(&self.must).filter(|_| !self.is_torn) {
            let outs = delivered(&tables, way.out, way.to, way.from, &mut self.connections.clone())?;
            if !outs.contains(&way.at) {
                return Err(format!("a reply to {way:?} is lost, and all policies on the way admit it"));
            }
        }
        Ok(())
    }

    /// A frame and a reply on every way from a lower to a higher number: connections that the lower one begins. None to the
    /// network, of which a port that is plugged in later would take what it gets for a reply.
    pub(super) fn traffic<'f>(&mut self, flows: impl Iterator<Item = &'f Flow>) -> Result<(), String> {
        let tables = Tables::new(flows.cloned()).map_err(|refused| refused.to_string())?;
        for (at, from, to) in self.probes().filter(|(_, from, to)| from < to) {
            if delivered(&tables, at, from, to, &mut self.connections.clone())?.is_empty() {
                continue;
            }
            for out in delivered(&tables, at, from, to, &mut self.connections)? {
                delivered(&tables, out, to, from, &mut self.connections)?;
                self.sessions.insert(Way { at, from, to, out });
            }
        }
        Ok(())
    }

    /// Every device in the name of every port to every other.
    fn probes(&self) -> impl Iterator<Item = (u16, u16, u16)> + use<> {
        let numbers = 1..=self.count;
        let (froms, tos) = (numbers.clone(), numbers.clone());
        let pairs = move |at| {
            let tos = tos.clone();
            froms.clone().flat_map(move |from| tos.clone().map(move |to| (at, from, to)))
        };
        numbers.flat_map(pairs).filter(|(_, from, to)| from != to)
    }

    fn admitted(&self, policy: &Policy, plugged: &Plugged) -> BTreeSet<Way> {
        let claims = |port: u16| plugged.values().filter(|other| **other == port).count();
        let sound: Plugged =
            plugged.iter().filter(|(_, port)| claims(**port) == 1).map(|(at, port)| (*at, *port)).collect();
        let bindings = sound.values().map(|port| (port_id(*port), 0)).collect();
        let model = Model::new(policy, Settings::default(), Host { bindings });
        let mut ways = BTreeSet::new();
        for (at, from, to) in self.probes() {
            let Some(port) = sound.get(&at) else { continue };
            let outcome = model.clone().send(&port_id(*port), &frame(from, to));
            let receivers = sound.iter().filter(|(_, port)| outcome.reaches(&port_id(**port)));
            ways.extend(receivers.map(|(out, _)| Way { at, from, to, out: *out }));
        }
        ways
    }
}

fn port_id(number: u16) -> PortId {
    format!("p-{number}").as_str().into()
}

fn octet(number: u16) -> u8 {
    u8::try_from(number).expect("few ports")
}

fn frame(from: u16, to: u16) -> Frame {
    let mac = |number| MacAddr([0xfa, 0x16, 0x3e, 0, 0, octet(number)]);
    let ip = |number| IpAddr::V4(Ipv4Addr::new(10, 0, 0, octet(number)));
    // One conversation of two ports, whoever begins: a reply is what the other would begin with.
    let transport = Transport::Ports { src: 4000, dst: 4000, tcp_flags: 0 };
    let protocol = PortProtocol::Udp.number();
    let packet = IpPacket { src: ip(from), dst: ip(to), protocol, fragment: Fragment::No, transport };
    Frame { eth_src: mac(from), eth_dst: mac(to), vlan: None, payload: Payload::Ip(packet) }
}

/// The OpenFlow ports that the frame comes out at.
fn delivered(
    tables: &Tables,
    at: u16,
    from: u16,
    to: u16,
    connections: &mut Connections,
) -> Result<BTreeSet<u16>, String> {
    let packet = Packet::of_frame(PortNo(u32::from(at)), &frame(from, to));
    let outcome = run(tables, packet, connections).map_err(|error| error.to_string())?;
    Ok(outcome.ports().filter_map(|port| u16::try_from(port.0).ok()).collect())
}
