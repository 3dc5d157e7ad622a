//! One question to the network: does this get through?

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, Ipv4Slice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, socket_with, sockopt,
};

use crate::error::Tried as _;
use crate::{Error, Vm};

/// How long a probe waits unless told otherwise. A lost SYN is sent again after a second, so one loss is forgiven.
const PATIENCE: Duration = Duration::from_millis(2500);

/// How often a datagram or echo request is sent again while no answer comes.
const RESEND_EVERY: Duration = Duration::from_millis(400);

/// A TCP connection to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpProbe {
    /// Where to.
    pub to: SocketAddr,
    /// The client's address and port; the kernel's choice if none.
    pub from: Option<SocketAddr>,
    /// How long to wait for the handshake.
    pub within: Duration,
}

impl TcpProbe {
    /// With the kernel's choice of client port.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, from: None, within: PATIENCE }
    }
}

/// What became of a [`TcpProbe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpVerdict {
    /// The handshake was completed.
    Connected,
    /// Somebody answered with a reset.
    Refused,
    /// The way is barred by an ICMP error, or nobody answers ARP or neighbour solicitations.
    Unreachable,
    /// Nothing came back.
    TimedOut,
}

/// A datagram to an echo service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpProbe {
    /// Where to.
    pub to: SocketAddr,
    /// The client's address and port; the kernel's choice if none.
    pub from: Option<SocketAddr>,
    /// How long to wait for the echo; the datagram is sent again a few times.
    pub within: Duration,
}

impl UdpProbe {
    /// With the kernel's choice of client port.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, from: None, within: PATIENCE }
    }
}

/// What became of a [`UdpProbe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UdpVerdict {
    /// The same bytes came back.
    Echoed,
    /// An ICMP error says that no one listens on the port.
    Refused,
    /// Another ICMP error, or nobody answers ARP or neighbour solicitations.
    Unreachable,
    /// Nothing came back.
    Silent,
}

/// What became of an echo request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PingVerdict {
    /// The echo reply came.
    Replied,
    /// Nobody answers ARP or neighbour solicitations, or there is no route.
    Unreachable,
    /// Nothing came back.
    Silent,
}

impl Vm {
    /// Tries a TCP connection from this VM and closes it at once.
    ///
    /// # Errors
    /// No verdict could be had: the socket cannot be made or bound.
    pub fn probe_tcp(&self, probe: &TcpProbe) -> Result<TcpVerdict, Error> {
        let connected = self.netns().enter(|| connect(probe.to, probe.from, probe.within))?;
        match connected {
            Ok(_) => Ok(TcpVerdict::Connected),
            Err(error) => match Fate::of(&error) {
                Some(Fate::Refused) => Ok(TcpVerdict::Refused),
                Some(Fate::Unreachable) => Ok(TcpVerdict::Unreachable),
                Some(Fate::Silent) => Ok(TcpVerdict::TimedOut),
                None => Err(error).tried(|| format!("connect to {}", probe.to)),
            },
        }
    }

    /// Sends a datagram from this VM and waits for its echo.
    ///
    /// # Errors
    /// No verdict could be had: the socket cannot be made or bound.
    pub fn probe_udp(&self, probe: &UdpProbe) -> Result<UdpVerdict, Error> {
        let echoed = self.netns().enter(|| udp_echo(probe))?;
        match echoed {
            Ok(()) => Ok(UdpVerdict::Echoed),
            Err(error) => match Fate::of(&error) {
                Some(Fate::Refused) => Ok(UdpVerdict::Refused),
                Some(Fate::Unreachable) => Ok(UdpVerdict::Unreachable),
                Some(Fate::Silent) => Ok(UdpVerdict::Silent),
                None => Err(error).tried(|| format!("send to {}", probe.to)),
            },
        }
    }

    /// Sends echo requests from this VM until one is answered or `within` has passed.
    ///
    /// # Errors
    /// No verdict could be had: the socket cannot be made.
    pub fn ping(&self, to: IpAddr, within: Duration) -> Result<PingVerdict, Error> {
        let replied = self.netns().enter(|| echo_request(to, within))?;
        match replied {
            Ok(()) => Ok(PingVerdict::Replied),
            Err(error) => match Fate::of(&error) {
                Some(Fate::Unreachable) => Ok(PingVerdict::Unreachable),
                Some(Fate::Silent) => Ok(PingVerdict::Silent),
                Some(Fate::Refused) | None => Err(error).tried(|| format!("ping {to}")),
            },
        }
    }
}

/// What an error of a socket says about the network.
enum Fate {
    Refused,
    Unreachable,
    Silent,
}

impl Fate {
    fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error) {
            Some(Errno::CONNREFUSED | Errno::CONNRESET) => Some(Self::Refused),
            // ip(7), icmp(7): what the kernel makes of ICMP errors and of a neighbour that does not answer.
            Some(
                Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::ACCESS | Errno::HOSTDOWN | Errno::NOPROTOOPT,
            ) => Some(Self::Unreachable),
            Some(Errno::TIMEDOUT) => Some(Self::Silent),
            _ => None,
        }
    }
}

/// A TCP connection in the calling thread's namespace.
pub(crate) fn connect(to: SocketAddr, from: Option<SocketAddr>, within: Duration) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if let Some(from) = from {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &from)?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            wait_for(&socket, PollFlags::OUT, Instant::now() + within)?;
            sockopt::socket_error(&socket)??;
        }
        Err(error) => return Err(error.into()),
    }
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

fn udp_echo(probe: &UdpProbe) -> io::Result<()> {
    let unspecified = if probe.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let from = probe.from.unwrap_or_else(|| unspecified.parse().expect("an address literal"));
    let socket = UdpSocket::bind(from)?;
    socket.connect(probe.to)?;
    let question = format!("{} asks {}", socket.local_addr()?, probe.to);
    ask_until_answered(&socket, question.as_bytes(), Instant::now() + probe.within, |answer| {
        answer == question.as_bytes()
    })
}

/// Sends echo requests by a raw socket (raw(7)): IPv4 comes back with its header, and an ICMPv6 checksum is the kernel's
/// affair.
fn echo_request(to: IpAddr, within: Duration) -> io::Result<()> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    rustix::net::connect(&socket, &SocketAddr::new(to, 0))?;
    // Several processes and threads may ping the same address: the local port of a UDP socket is unique among them.
    let unique = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    let echo = IcmpEchoHeader { id: unique.local_addr()?.port(), seq: 1 };
    let request = match to {
        IpAddr::V4(_) => {
            etherparse::Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &[]).to_bytes().to_vec()
        }
        IpAddr::V6(_) => etherparse::Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
    };
    let is_reply = |answer: &[u8]| match to {
        IpAddr::V4(_) => Ipv4Slice::from_slice(answer).ok().is_some_and(|ip| {
            Icmpv4Slice::from_slice(ip.payload().payload)
                .is_ok_and(|icmp| icmp.icmp_type() == Icmpv4Type::EchoReply(echo))
        }),
        IpAddr::V6(_) => {
            Icmpv6Slice::from_slice(answer).is_ok_and(|icmp| icmp.icmp_type() == Icmpv6Type::EchoReply(echo))
        }
    };
    ask_until_answered(&socket, &request, Instant::now() + within, is_reply)
}

/// Sends `question` on a connected socket, again and again, until `is_answer` likes what comes back.
fn ask_until_answered(
    socket: &impl AsFd,
    question: &[u8],
    deadline: Instant,
    is_answer: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = [0; 2048];
    loop {
        rustix::net::send(socket, question, SendFlags::empty())?;
        let resend_at = deadline.min(Instant::now() + RESEND_EVERY);
        loop {
            match wait_for(socket, PollFlags::IN, resend_at) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && resend_at < deadline => break,
                other => other?,
            }
            let (_, received) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT)?;
            if is_answer(&buffer[..received]) {
                return Ok(());
            }
        }
    }
}

/// Waits until the socket is ready; `TimedOut` after `deadline`.
pub(crate) fn wait_for(socket: &impl AsFd, events: PollFlags, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(socket, events)], Some(&timeout)) {
            Ok(0) => return Err(Errno::TIMEDOUT.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
