//! Every pair, every service, both families: what the evaluator says, and what real traffic sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lab::{PingVerdict, TcpProbe, TcpVerdict, UdpProbe, UdpVerdict};
use policy::evaluator::{Fragment, Frame, Host, IpPacket, Model, Payload, Settings, Transport};
use policy::{MacAddr, Policy, PortId};

use super::guests::{Guest, Guests, TCP_PORTS, UDP_PORTS};

/// Probes under way at once: they mostly wait.
const WORKERS: usize = 48;
/// How long a barred probe waits. Its answer, when it is admitted, takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(1200);
/// How long a frame may be on its way.
const SETTLE: Duration = Duration::from_millis(300);

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Service {
    Ping,
    Tcp(u16),
    Udp(u16),
}

impl Service {
    pub(crate) fn all() -> Vec<Service> {
        let tcp = TCP_PORTS.map(Service::Tcp);
        std::iter::once(Service::Ping).chain(tcp).chain(UDP_PORTS.map(Service::Udp)).collect()
    }

    pub(crate) fn name(self) -> String {
        match self {
            Service::Ping => "ping".to_owned(),
            Service::Tcp(port) => format!("tcp/{port}"),
            Service::Udp(port) => format!("udp/{port}"),
        }
    }
}

/// One question.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Question {
    pub(crate) from: PortId,
    pub(crate) to: PortId,
    pub(crate) service: Service,
    pub(crate) ipv6: bool,
}

/// Question → does it get through?
pub(crate) type Verdicts = BTreeMap<Question, bool>;

/// Within a network; what must not cross from one to another is looked for by [`crossing`].
fn questions(guests: &Guests) -> Vec<Question> {
    let mut questions = Vec::new();
    for from in guests.iter() {
        for to in guests.iter().filter(|to| to.id != from.id && to.vlan == from.vlan) {
            for service in Service::all() {
                for ipv6 in [false, true] {
                    questions.push(Question { from: from.id.clone(), to: to.id.clone(), service, ipv6 });
                }
            }
        }
    }
    questions
}

/// Asks the network.
pub(crate) fn send(guests: &Guests) -> anyhow::Result<Verdicts> {
    let questions = questions(guests);
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Verdicts::new());
    let failure = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(question) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match ask(guests, question) {
                        Ok(passed) => {
                            lock(&verdicts).insert(question.clone(), passed);
                        }
                        Err(error) => *lock(&failure) = Some(error),
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(verdicts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn ask(guests: &Guests, question: &Question) -> anyhow::Result<bool> {
    let (from, to) = (guests.get(question.from.as_str())?, guests.get(question.to.as_str())?);
    probe(from, to, question)
}

fn probe(from: &Guest, to: &Guest, question: &Question) -> anyhow::Result<bool> {
    let address = to.address(question.ipv6)?;
    Ok(match question.service {
        Service::Ping => from.vm.ping(address, PATIENCE)? == PingVerdict::Replied,
        Service::Tcp(port) => {
            let probe = TcpProbe { within: PATIENCE, ..TcpProbe::new(SocketAddr::new(address, port)) };
            from.vm.probe_tcp(&probe)? == TcpVerdict::Connected
        }
        Service::Udp(port) => {
            let probe = UdpProbe { within: PATIENCE, ..UdpProbe::new(SocketAddr::new(address, port)) };
            from.vm.probe_udp(&probe)? == UdpVerdict::Echoed
        }
    })
}

/// Sends ARP requests, which every port may, from each VM to each VM of another network: by its MAC, and to everybody.
/// Returns how many were sent and how many came in on another network.
pub(crate) fn crossing(guests: &Guests) -> anyhow::Result<(usize, usize)> {
    let captures: Vec<_> =
        guests.iter().map(|guest| Ok((guest, guest.vm.capture()?))).collect::<anyhow::Result<_>>()?;
    let mut sent = 0;
    for from in guests.iter() {
        let others = guests.iter().filter(|to| to.vlan != from.vlan).map(|to| to.mac);
        for mac in others.chain([MacAddr::BROADCAST]) {
            from.vm.send_frame(&arp_request(from, mac)?)?;
            sent += 1;
        }
    }
    thread::sleep(SETTLE);
    let mut crossed = 0;
    for (guest, capture) in captures {
        let foreign: Vec<[u8; 6]> =
            guests.iter().filter(|from| from.vlan != guest.vlan).map(|from| from.mac.octets()).collect();
        let frames = capture.drain()?;
        crossed +=
            frames.iter().filter(|frame| foreign.iter().any(|mac| frame.get(6..12) == Some(mac))).count();
    }
    Ok((sent, crossed))
}

/// An ARP request for the bastion's address (RFC 826) to `to`.
fn arp_request(from: &Guest, to: MacAddr) -> anyhow::Result<Vec<u8>> {
    let std::net::IpAddr::V4(own) = from.address(false)? else { anyhow::bail!("an IPv4 address is none") };
    let mut frame = Vec::with_capacity(60);
    frame.extend(to.octets());
    frame.extend(from.mac.octets());
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(from.mac.octets());
    frame.extend(own.octets());
    frame.extend([0; 6]);
    frame.extend([10, 0, 0, 2]);
    frame.resize(60, 0);
    Ok(frame)
}

/// Asks the evaluator, which shares no code with what writes the flows.
pub(crate) fn expected(guests: &Guests, policy: &Policy) -> Verdicts {
    let bindings = guests.iter().map(|guest| (guest.id.clone(), guest.vlan)).collect();
    let host = Host { bindings };
    let settings = Settings { permitted_ethertypes: BTreeSet::new(), ..Settings::default() };
    let mut verdicts = Verdicts::new();
    for question in questions(guests) {
        let mut model = Model::new(policy, settings.clone(), host.clone());
        let passed = match first_frame(guests, &question) {
            Some(frame) => model.send(&question.from, &frame).reaches(&question.to),
            None => false,
        };
        verdicts.insert(question, passed);
    }
    verdicts
}

/// The first frame of the probe; the answer to an admitted one is a reply and needs no rule.
fn first_frame(guests: &Guests, question: &Question) -> Option<Frame> {
    let (from, to) = (guests.get(question.from.as_str()).ok()?, guests.get(question.to.as_str()).ok()?);
    const CLIENT_PORT: u16 = 40_000;
    const SYN: u8 = 0x02;
    let ports = |dst, tcp_flags| Transport::Ports { src: CLIENT_PORT, dst, tcp_flags };
    let (protocol, transport) = match (question.service, question.ipv6) {
        (Service::Tcp(port), _) => (6, ports(port, SYN)),
        (Service::Udp(port), _) => (17, ports(port, 0)),
        (Service::Ping, false) => (1, echo_request(8)),
        (Service::Ping, true) => (58, echo_request(128)),
    };
    let (src, dst) = (from.address(question.ipv6).ok()?, to.address(question.ipv6).ok()?);
    let packet = IpPacket { src, dst, protocol, fragment: Fragment::No, transport };
    Some(Frame { eth_src: from.mac, eth_dst: to.mac, vlan: None, payload: Payload::Ip(packet) })
}

fn echo_request(icmp_type: u8) -> Transport {
    Transport::Icmp { icmp_type, code: 0, nd_target: None, quoted: None }
}
