//! The packet, as the command line has it.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use explain::question::{Content, PacketState, Question};
use policy::document::protocol_number;
use policy::evaluator::Detail;
use policy::{Direction, Ethertype, MacAddr, Policy, Port, PortProtocol};
use serde::Deserialize;

use super::called::{Host, find_port};

/// What a client's own port is if nothing else is said: of the dynamic ones (RFC 6335, section 6).
const DYNAMIC_PORT: u16 = 49152;

/// What is in the packet, and where it comes from or goes to.
#[derive(Args, Debug, Default)]
pub(crate) struct PacketOptions {
    /// The packet comes from this address, or from this port of the policy
    #[arg(long, value_name = "ADDRESS|PORT", required_unless_present = "to", conflicts_with = "to")]
    pub(crate) from: Option<String>,

    /// The packet goes to this address, or to this port of the policy
    #[arg(long, value_name = "ADDRESS|PORT")]
    pub(crate) to: Option<String>,

    /// Its protocol: tcp, udp, icmp, … or a number, arp, or an ethertype as 0x88cc
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) proto: String,

    /// Its destination port
    #[arg(long, value_name = "NUMBER")]
    pub(crate) dport: Option<u16>,

    /// Its source port [default: 49152]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) sport: Option<u16>,

    /// Its ICMP type [default: echo request]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) icmp_type: Option<u8>,

    /// Its ICMP code [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) icmp_code: Option<u8>,

    /// Of a neighbour solicitation or advertisement, the target [default: the source]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) nd_target: Option<Ipv6Addr>,

    /// What it is to connection tracking
    #[arg(long, value_name = "STATE", value_enum, default_value_t = State::New)]
    pub(crate) state: State,

    /// The port's own address [default: its first of the family]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,

    /// The port's own MAC [default: that of the policy]
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub(crate) mac: Option<MacAddr>,

    /// The MAC of the other end [default: that of the policy, else one of nobody's]
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub(crate) peer_mac: Option<MacAddr>,

    /// It carries a VLAN tag of its own
    #[arg(long, value_name = "VID")]
    pub(crate) vlan: Option<u16>,
}

/// See [`PacketState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// The first of a connection
    #[default]
    New,
    /// A later one, the way of the first
    Established,
    /// One of a connection whose first went the other way
    Reply,
    /// An ICMP error about a connection; ports are those of a reply
    Related,
    /// None that connection tracking can place
    Invalid,
}

fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|error: policy::MacError| error.to_string())
}

/// The other end.
enum End<'p> {
    Address(IpAddr),
    Port(&'p Port),
}

impl PacketOptions {
    /// With the other end by its id, where it is a port that is called otherwise.
    pub(crate) async fn called(mut self, policy: &Policy, host: Host<'_>) -> anyhow::Result<Self> {
        for (option, end) in [("--from", &mut self.from), ("--to", &mut self.to)] {
            if let Some(name) = end.as_mut().filter(|end| end.parse::<IpAddr>().is_err()) {
                let id = host.port_called(policy, name).await;
                *name =
                    id.with_context(|| format!("{option} {name}: it is no address, nor a port"))?.to_string();
            }
        }
        Ok(self)
    }

    /// What is asked of each end that the policy knows, the sender's first.
    pub(crate) fn questions(&self, policy: &Policy, port: &str) -> anyhow::Result<Vec<Question>> {
        let port = find_port(policy, port)?;
        let (direction, end) = match (&self.from, &self.to) {
            (Some(end), _) => (Direction::Ingress, end),
            (None, Some(end)) => (Direction::Egress, end),
            (None, None) => bail!("say where the packet comes from or goes to: --from or --to"),
        };
        let end = match end.parse::<IpAddr>() {
            Ok(address) => End::Address(address),
            Err(_) => {
                let option = if direction == Direction::Ingress { "--from" } else { "--to" };
                let port = find_port(policy, end);
                End::Port(port.with_context(|| format!("{option} {end}: it is no address, nor a port"))?)
            }
        };
        let near = self.near(port, direction, &end)?;
        let mut questions = vec![near];
        if let End::Port(other) = end {
            questions.push(self.far(&questions[0], port, other)?);
        }
        if direction == Direction::Ingress {
            questions.reverse();
        }
        Ok(questions)
    }

    /// The command line that asks the same; what it does not say is as by default.
    pub(crate) fn command(&self, port: &str) -> String {
        let word = |text: &str| match text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:/".contains(c)) {
            true => text.to_owned(),
            false => format!("'{}'", text.replace('\'', r"'\''")),
        };
        let mut command = format!("sgflow explain {}", word(port));
        let mut add = |option: &str, value: Option<String>| {
            if let Some(value) = value {
                command += &format!(" --{option} {}", word(&value));
            }
        };
        add("from", self.from.clone());
        add("to", self.to.clone());
        add("proto", Some(self.proto.clone()));
        add("dport", self.dport.map(|number| number.to_string()));
        add("sport", self.sport.map(|number| number.to_string()));
        add("icmp-type", self.icmp_type.map(|number| number.to_string()));
        add("icmp-code", self.icmp_code.map(|number| number.to_string()));
        let state = self.state.to_possible_value().filter(|_| self.state != State::New);
        add("state", state.map(|state| state.get_name().to_owned()));
        command
    }

    fn near(&self, port: &Port, direction: Direction, end: &End<'_>) -> anyhow::Result<Question> {
        let (peer, peer_mac) = match end {
            End::Address(address) => (*address, self.peer_mac),
            End::Port(other) => {
                (common_address(other, port, self.address)?, Some(self.peer_mac.unwrap_or(other.mac)))
            }
        };
        Ok(Question {
            port: port.id.clone(),
            direction,
            peer,
            peer_mac,
            own: self.address,
            own_mac: self.mac,
            vlan: self.vlan_of(direction),
            content: self.content(if peer.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 })?,
            state: self.state.into(),
        })
    }

    /// The same packet at the other end.
    fn far(&self, near: &Question, port: &Port, other: &Port) -> anyhow::Result<Question> {
        let own = near.own.map_or_else(|| first_address(port, near.peer.is_ipv4()), Some);
        let peer = own.with_context(|| format!("port {}: it has no address of the family", port.id))?;
        Ok(Question {
            port: other.id.clone(),
            direction: near.direction.opposite(),
            peer,
            peer_mac: Some(near.own_mac.unwrap_or(port.mac)),
            own: Some(near.peer),
            own_mac: near.peer_mac,
            vlan: self.vlan_of(near.direction.opposite()),
            ..near.clone()
        })
    }

    /// What the sender tags comes to nobody.
    fn vlan_of(&self, direction: Direction) -> Option<u16> {
        self.vlan.filter(|_| direction == Direction::Egress || self.to.is_none() && self.is_from_address())
    }

    fn is_from_address(&self) -> bool {
        self.from.as_deref().is_some_and(|end| end.parse::<IpAddr>().is_ok())
    }

    /// What is in it.
    pub(crate) fn content(&self, ethertype: Ethertype) -> anyhow::Result<Content> {
        if self.proto.eq_ignore_ascii_case("arp") {
            return Ok(Content::Arp);
        }
        if let Some(hex) = self.proto.strip_prefix("0x") {
            let number = u16::from_str_radix(hex, 16);
            return Ok(Content::Ethertype(number.with_context(|| format!("--proto {}", self.proto))?));
        }
        let protocol =
            protocol_number(&self.proto, ethertype).map_err(|reason| anyhow::anyhow!("--proto: {reason}"))?;
        let has_ports = PortProtocol::from_number(protocol).is_some();
        let is_icmp = protocol == ethertype.icmp();
        for (option, given, fits) in [
            ("--dport", self.dport.is_some(), has_ports),
            ("--sport", self.sport.is_some(), has_ports),
            ("--icmp-type", self.icmp_type.is_some(), is_icmp),
            ("--icmp-code", self.icmp_code.is_some(), is_icmp),
            ("--nd-target", self.nd_target.is_some(), is_icmp && ethertype == Ethertype::Ipv6),
        ] {
            if given && !fits {
                bail!("{option}: there is none in {} over {ethertype}", self.proto);
            }
        }
        let echo = if ethertype == Ethertype::Ipv4 { 8 } else { 128 };
        let detail = if has_ports {
            let Some(dst) = self.dport else {
                bail!("--proto {} needs a destination port, --dport", self.proto)
            };
            Detail::Ports { src: self.sport.unwrap_or(DYNAMIC_PORT), dst }
        } else if is_icmp {
            Detail::Icmp { icmp_type: self.icmp_type.unwrap_or(echo), code: self.icmp_code.unwrap_or(0) }
        } else {
            Detail::None
        };
        Ok(Content::Ip { protocol, detail, nd_target: self.nd_target })
    }
}

impl From<State> for PacketState {
    fn from(state: State) -> Self {
        match state {
            State::New => PacketState::New,
            State::Established => PacketState::Established,
            State::Reply => PacketState::Reply,
            State::Related => PacketState::Related,
            State::Invalid => PacketState::Invalid,
        }
    }
}

/// The first address of `other` of a family that `port` has too: IPv4 where both have it.
fn common_address(other: &Port, port: &Port, own: Option<IpAddr>) -> anyhow::Result<IpAddr> {
    let is_wanted = |is_ipv4: bool| match own {
        Some(own) => own.is_ipv4() == is_ipv4,
        None => first_address(port, is_ipv4).is_some(),
    };
    let common = [true, false].into_iter().filter(|is_ipv4| is_wanted(*is_ipv4));
    let mut addresses = common.filter_map(|is_ipv4| first_address(other, is_ipv4));
    addresses
        .next()
        .with_context(|| format!("ports {} and {} have no addresses of one family", port.id, other.id))
}

fn first_address(port: &Port, is_ipv4: bool) -> Option<IpAddr> {
    port.fixed_ips.iter().copied().find(|ip| ip.is_ipv4() == is_ipv4)
}
