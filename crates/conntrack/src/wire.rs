//! Messages and attributes of `nfnetlink_conntrack.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nfnetlink::{Attribute, Attributes, Malformed, Message, Request, Subsystem};

use crate::connection::{Connection, Ends, Status, Tuple};

/// `enum cntl_msg_types`.
pub(crate) mod command {
    pub(crate) const NEW: u8 = 0;
    pub(crate) const GET: u8 = 1;
    pub(crate) const DELETE: u8 = 2;
}

/// `enum ctattr_type`.
mod attr {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const PROTOCOL_INFO: u16 = 4;
    pub(super) const TIMEOUT: u16 = 7;
    pub(super) const MARK: u16 = 8;
    pub(super) const COUNTERS_ORIGINAL: u16 = 9;
    pub(super) const COUNTERS_REPLY: u16 = 10;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const LABELS: u16 = 22;
}

/// `enum ctattr_tuple`, `enum ctattr_ip`, `enum ctattr_l4proto`.
mod tuple {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ZONE: u16 = 3;

    pub(super) const V4_SOURCE: u16 = 1;
    pub(super) const V4_DESTINATION: u16 = 2;
    pub(super) const V6_SOURCE: u16 = 3;
    pub(super) const V6_DESTINATION: u16 = 4;

    pub(super) const NUMBER: u16 = 1;
    pub(super) const SOURCE_PORT: u16 = 2;
    pub(super) const DESTINATION_PORT: u16 = 3;
    pub(super) const ICMP_ID: u16 = 4;
    pub(super) const ICMP_TYPE: u16 = 5;
    pub(super) const ICMP_CODE: u16 = 6;
    pub(super) const ICMPV6_ID: u16 = 7;
    pub(super) const ICMPV6_TYPE: u16 = 8;
    pub(super) const ICMPV6_CODE: u16 = 9;
}

/// `CTA_PROTOINFO_TCP`, and in it `CTA_PROTOINFO_TCP_STATE`.
const INFO_OF_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
/// `CTA_COUNTERS_PACKETS`, `CTA_COUNTERS_BYTES`.
const PACKETS: u16 = 1;
const BYTES: u16 = 2;

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const ICMPV6: u8 = 58;

/// All connections of both families; of one zone, from Linux 6.8 on (net/netfilter/nf_conntrack_netlink.c: `ctnetlink_alloc_filter`).
pub(crate) fn dump(zone: Option<u16>) -> Request {
    let mut request = Request::new(Subsystem::Conntrack, command::GET, Request::DUMP, 0, 0);
    if let Some(zone) = zone {
        request.put_be16(attr::ZONE, zone);
    }
    request
}

/// A command about this very connection.
pub(crate) fn about(command: u8, connection: &Connection) -> Request {
    let family = if connection.original.source.is_ipv4() { IPV4 } else { IPV6 };
    let mut request = Request::new(Subsystem::Conntrack, command, 0, family, 0);
    put_tuple(
        &mut request,
        attr::ORIGINAL,
        &connection.original,
        connection.zone_of[0].then_some(connection.zone),
    );
    match connection.zone_of {
        // Where one direction has the zone, its tuple says so.
        [true, _] | [_, true] => {}
        [false, false] => _ = request.put_be16(attr::ZONE, connection.zone),
    }
    if let Some(id) = connection.id {
        request.put_be32(attr::ID, id);
    }
    request
}

/// Gives a connection that is there another mark.
pub(crate) fn mark(connection: &Connection, mark: u32) -> Request {
    let mut request = about(command::NEW, connection);
    request.put_be32(attr::MARK, mark);
    request
}

fn put_tuple(request: &mut Request, kind: u16, tuple: &Tuple, zone: Option<u16>) {
    request.nest(kind, |request| {
        request.nest(tuple::IP, |ip| match (tuple.source, tuple.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ip.put(tuple::V4_SOURCE, &source.octets()).put(tuple::V4_DESTINATION, &destination.octets());
            }
            (source, destination) => {
                let octets = |address: IpAddr| match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                ip.put(tuple::V6_SOURCE, &octets(source)).put(tuple::V6_DESTINATION, &octets(destination));
            }
        });
        request.nest(tuple::PROTOCOL, |protocol| {
            protocol.put_u8(tuple::NUMBER, tuple.protocol);
            match tuple.ends {
                Ends::Ports { source, destination } => {
                    protocol.put(tuple::SOURCE_PORT, &source.to_be_bytes());
                    protocol.put(tuple::DESTINATION_PORT, &destination.to_be_bytes());
                }
                Ends::Icmp { icmp_type, code, id } => {
                    let [of_id, of_type, of_code] = if tuple.protocol == ICMPV6 {
                        [tuple::ICMPV6_ID, tuple::ICMPV6_TYPE, tuple::ICMPV6_CODE]
                    } else {
                        [tuple::ICMP_ID, tuple::ICMP_TYPE, tuple::ICMP_CODE]
                    };
                    protocol.put(of_id, &id.to_be_bytes());
                    protocol.put_u8(of_type, icmp_type).put_u8(of_code, code);
                }
                Ends::Addresses => {}
            }
        });
        if let Some(zone) = zone {
            request.put_be16(tuple::ZONE, zone);
        }
    });
}

/// The connection that a message tells of.
pub(crate) fn connection(message: &Message<'_>) -> Result<Connection, Malformed> {
    let (_, attributes) = message.netfilter()?;
    let number = |kind| attributes.find(kind)?.map(Attribute::be32).transpose();
    let of_tuple = |kind| attributes.find(kind)?.ok_or(Malformed("a connection without a tuple"));
    let tuples = [of_tuple(attr::ORIGINAL)?, of_tuple(attr::REPLY)?].map(Attribute::nested);
    let zones = [zone(tuples[0], tuple::ZONE)?, zone(tuples[1], tuple::ZONE)?];
    let whole = zone(attributes, attr::ZONE)?;
    Ok(Connection {
        original: read_tuple(tuples[0])?,
        reply: read_tuple(tuples[1])?,
        zone: whole.or(zones[0]).or(zones[1]).unwrap_or_default(),
        zone_of: zones.map(|zone| zone.is_some()),
        status: Status(number(attr::STATUS)?.unwrap_or_default()),
        mark: number(attr::MARK)?.unwrap_or_default(),
        labels: attributes.find(attr::LABELS)?.map(labels).transpose()?,
        timeout: number(attr::TIMEOUT)?,
        tcp_state: tcp_state(attributes)?,
        counters: [
            counters(attributes, attr::COUNTERS_ORIGINAL)?,
            counters(attributes, attr::COUNTERS_REPLY)?,
        ],
        id: number(attr::ID)?,
    })
}

fn zone(attributes: Attributes<'_>, kind: u16) -> Result<Option<u16>, Malformed> {
    attributes.find(kind)?.map(Attribute::be16).transpose()
}

/// A bit map of words of the machine, of 16 octets or, before Linux 4.12, less (`NF_CT_LABELS_MAX_SIZE`).
fn labels(attribute: Attribute<'_>) -> Result<u128, Malformed> {
    let mut bits = [0; 16];
    let held = bits.get_mut(..attribute.value.len()).ok_or(Malformed("more labels than there are"))?;
    held.copy_from_slice(attribute.value);
    Ok(u128::from_ne_bytes(bits))
}

fn tcp_state(attributes: Attributes<'_>) -> Result<Option<u8>, Malformed> {
    let Some(info) = attributes.find(attr::PROTOCOL_INFO)? else { return Ok(None) };
    let Some(tcp) = info.nested().find(INFO_OF_TCP)? else { return Ok(None) };
    tcp.nested().find(TCP_STATE)?.map(Attribute::u8).transpose()
}

fn counters(attributes: Attributes<'_>, kind: u16) -> Result<Option<(u64, u64)>, Malformed> {
    let Some(counters) = attributes.find(kind)? else { return Ok(None) };
    let number = |kind| {
        let count = counters.nested().find(kind)?.ok_or(Malformed("a counter without its number"))?;
        count.be64()
    };
    Ok(Some((number(PACKETS)?, number(BYTES)?)))
}

fn read_tuple(tuple: Attributes<'_>) -> Result<Tuple, Malformed> {
    let ip = tuple.find(tuple::IP)?.ok_or(Malformed("a tuple without addresses"))?.nested();
    let protocol = tuple.find(tuple::PROTOCOL)?.ok_or(Malformed("a tuple without protocol"))?.nested();
    let number = protocol.find(tuple::NUMBER)?.ok_or(Malformed("a tuple without protocol"))?.u8()?;
    Ok(Tuple {
        source: address(ip, tuple::V4_SOURCE, tuple::V6_SOURCE)?,
        destination: address(ip, tuple::V4_DESTINATION, tuple::V6_DESTINATION)?,
        protocol: number,
        ends: ends(protocol)?,
    })
}

fn address(ip: Attributes<'_>, v4: u16, v6: u16) -> Result<IpAddr, Malformed> {
    if let Some(address) = ip.find(v4)? {
        return Ok(Ipv4Addr::from(address.array()?).into());
    }
    let address = ip.find(v6)?.ok_or(Malformed("a tuple without an address"))?;
    Ok(Ipv6Addr::from(address.array::<16>()?).into())
}

fn ends(protocol: Attributes<'_>) -> Result<Ends, Malformed> {
    let two = |kind| protocol.find(kind)?.map(Attribute::be16).transpose();
    let one = |kind| protocol.find(kind)?.map(Attribute::u8).transpose();
    if let (Some(source), Some(destination)) = (two(tuple::SOURCE_PORT)?, two(tuple::DESTINATION_PORT)?) {
        return Ok(Ends::Ports { source, destination });
    }
    let of_icmp = [
        [tuple::ICMP_ID, tuple::ICMP_TYPE, tuple::ICMP_CODE],
        [tuple::ICMPV6_ID, tuple::ICMPV6_TYPE, tuple::ICMPV6_CODE],
    ];
    for [id, icmp_type, code] in of_icmp {
        if let (Some(id), Some(icmp_type), Some(code)) = (two(id)?, one(icmp_type)?, one(code)?) {
            return Ok(Ends::Icmp { icmp_type, code, id });
        }
    }
    Ok(Ends::Addresses)
}

#[cfg(test)]
mod tests {
    use nfnetlink::Messages;
    use proptest::prelude::*;

    use super::*;

    fn tuple(address: &str, protocol: u8, ends: Ends) -> Tuple {
        let address: IpAddr = address.parse().unwrap();
        Tuple { source: address, destination: address, protocol, ends }
    }

    /// News of a connection, as the kernel would tell it.
    fn told(connection: &Connection) -> Vec<u8> {
        let mut request = about(command::NEW, connection);
        put_tuple(&mut request, attr::REPLY, &connection.reply, None);
        request.put_be32(attr::STATUS, connection.status.0).put_be32(attr::MARK, connection.mark);
        if let Some(labels) = connection.labels {
            request.put(attr::LABELS, &labels.to_ne_bytes());
        }
        if let Some(timeout) = connection.timeout {
            request.put_be32(attr::TIMEOUT, timeout);
        }
        if let Some(state) = connection.tcp_state {
            request.nest(attr::PROTOCOL_INFO, |info| {
                info.nest(INFO_OF_TCP, |tcp| _ = tcp.put_u8(TCP_STATE, state));
            });
        }
        for (kind, counted) in
            [attr::COUNTERS_ORIGINAL, attr::COUNTERS_REPLY].into_iter().zip(connection.counters)
        {
            if let Some((packets, bytes)) = counted {
                request.nest(kind, |counters| {
                    counters
                        .put_ordered(PACKETS, &packets.to_be_bytes())
                        .put_ordered(BYTES, &bytes.to_be_bytes());
                });
            }
        }
        request.into_bytes()
    }

    fn connections() -> Vec<Connection> {
        let ports = Ends::Ports { source: 1, destination: 2 };
        let query = Ends::Icmp { icmp_type: 8, code: 0, id: 7 };
        let tuples = [
            tuple("10.0.0.1", 6, ports),
            tuple("2001:db8::1", 17, ports),
            tuple("10.0.0.1", 1, query),
            tuple("2001:db8::1", ICMPV6, query),
            tuple("10.0.0.1", 47, Ends::Addresses),
        ];
        let of = |tuple: Tuple| Connection {
            original: tuple,
            reply: tuple,
            zone: 7,
            zone_of: [false; 2],
            status: Status(14),
            mark: 5,
            labels: Some(1 << 100),
            timeout: Some(60),
            tcp_state: Some(3),
            counters: [Some((1, 2)), None],
            id: Some(9),
        };
        tuples.map(of).to_vec()
    }

    #[test]
    fn what_is_told_of_a_connection_is_read() {
        for connection in connections() {
            let bytes = told(&connection);
            let message = Messages::new(&bytes).next().unwrap().unwrap();
            assert_eq!(super::connection(&message), Ok(connection));
        }
        let one_way = Connection { zone_of: [true, false], ..connections().remove(0) };
        let bytes = told(&one_way);
        assert_eq!(connection(&Messages::new(&bytes).next().unwrap().unwrap()), Ok(one_way));
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_another_connection(
            which in 0usize..5,
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut bytes = told(&connections()[which]);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for message in Messages::new(&bytes).flatten() {
                _ = connection(&message);
            }
        }
    }
}
