//! Frames as text, as bytes and as the evaluator sees them: the same frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use policy::evaluator::{Fragment, IpPacket, Payload, Transport};
use policy::{Ethertype, MacAddr, document};
use proptest::prelude::*;
use tests::frame_bytes;
use tests::frame_text::{Names, ROUTER};
use tests::sketch::{Arp, Body, CUSTOMER_TAG, Datagram, Part, SERVICE_TAG, Sketch, Tag};

const POLICY: &str = r#"
security_groups: [{id: sg-1, name: a}]
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-1]}
- {id: p-2, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}, {ip_address: "2001:db8::2"}], security_groups: [sg-1]}
"#;

fn names() -> Names {
    let parsed = document::parse(&[("policy", POLICY)], None);
    assert_eq!(parsed.diagnostics, []);
    Names::new(&parsed.policy)
}

fn read(sender: &str, text: &str) -> Sketch {
    names().read(sender, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn short_forms_stand_for_ports_and_their_stations() {
    let full = "tcp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:40000>10.0.0.2:80 S";
    for text in [full, "tcp @p-1>@p-2 10.0.0.1:40000>10.0.0.2:80 S", "tcp 10.0.0.1:40000>10.0.0.2:80 S"] {
        assert_eq!(read("p-1", text).to_string(), full);
    }
    let stations = |sender, text| {
        let sketch = read(sender, text);
        (sketch.eth_src, sketch.eth_dst)
    };
    let [p1, p2] = [1, 2].map(|last| MacAddr([0xfa, 0x16, 0x3e, 0, 0, last]));
    assert_eq!(stations("p-1", "udp 10.0.0.9:1>192.0.2.1:2"), (p1, ROUTER), "a port uses its own MAC");
    assert_eq!(stations("uplink", "udp 10.0.0.2:1>10.0.0.1:2"), (p2, p1), "the network that of the address");
    assert_eq!(stations("uplink", "udp 192.0.2.1:1>10.0.0.1:2"), (ROUTER, p1));
    assert_eq!(stations("p-1", "udp 10.0.0.1:1>224.0.1.2:2").1.to_string(), "01:00:5e:00:01:02");
    assert_eq!(
        stations("p-1", "icmp6 fe80::1>ff02::1:ff00:2 echo-request").1.to_string(),
        "33:33:ff:00:00:02"
    );
    assert_eq!(stations("p-1", "icmp6 fe80::1>fe80::f816:3eff:fe00:2 echo-request").1, p2);
    assert_eq!(stations("p-1", "arp request spa=10.0.0.1 tpa=10.0.0.2"), (p1, MacAddr::BROADCAST));
    assert_eq!(stations("p-1", "arp reply spa=10.0.0.1 tpa=10.0.0.2"), (p1, p2));
}

#[test]
fn what_the_evaluator_sees_is_what_the_text_says() {
    let packet = |text: &str| match read("p-1", text).frame().payload {
        Payload::Ip(packet) => packet,
        other => panic!("{text}: {other:?}"),
    };
    let advertisement = packet("icmp6 2001:db8::2>ff02::1 neighbour-advertisement target 2001:db8::2");
    let nd_target = Some("2001:db8::2".parse().unwrap());
    let expected = Transport::Icmp { icmp_type: 136, code: 0, nd_target, quoted: None };
    assert_eq!((advertisement.protocol, advertisement.transport), (58, expected));
    let error = packet("icmp 10.0.0.1>10.0.0.2 3/3 about udp 10.0.0.2:1000>10.0.0.1:53");
    let Transport::Icmp { quoted: Some(quoted), .. } = error.transport else { panic!("{error:?}") };
    assert_eq!((quoted.protocol, quoted.src), (17, IpAddr::from([10, 0, 0, 2])));
    let parts = ["0+1480/3000", "1480+1480/3000", "2960+40/3000"]
        .map(|part| packet(&format!("udp 10.0.0.1:1>10.0.0.2:2 part {part}")))
        .map(|packet| (packet.fragment, packet.transport == Transport::None));
    assert_eq!(parts, [(Fragment::First, false), (Fragment::Later, true), (Fragment::Later, true)]);
    let hopping = read("p-1", "vlan 0 vlan 20 udp 10.0.0.1:1>10.0.0.2:2").frame();
    assert_eq!((hopping.vlan, hopping.payload), (Some(0), Payload::Other(0x8100)));
}

#[test]
fn what_is_no_frame_is_an_error() {
    for text in [
        "",
        "tcp",
        "tcp 10.0.0.1:1>10.0.0.2:2",
        "tcp 10.0.0.1:1>10.0.0.2:2 X",
        "udp 10.0.0.1:1>10.0.0.2:2 S",
        "udp 10.0.0.1:1>[2001:db8::2]:2",
        "udp 10.0.0.1>10.0.0.2",
        "udp @p-3>@p-1 10.0.0.1:1>10.0.0.2:2",
        "udp 10.0.0.1:1>10.0.0.2:2 part 4+8/100",
        "udp 10.0.0.1:1>10.0.0.2:2 part 0+100/100",
        "udp 10.0.0.1:1>10.0.0.2:2 ext 60",
        "icmp 10.0.0.1>10.0.0.2 hello",
        "icmp 10.0.0.1>10.0.0.2 8/256",
        "icmp6 10.0.0.1>10.0.0.2 echo-request",
        "arp ask spa=10.0.0.1 tpa=10.0.0.2",
        "arp request spa=10.0.0.1",
        "vlan 4096 rarp",
        "ethertype 0x10000",
        "proto 6 10.0.0.1>10.0.0.2",
        "proto 256 10.0.0.1>10.0.0.2",
        "frame",
    ] {
        assert!(names().read("p-1", text).is_err(), "{text:?}");
    }
}

/// Another writer of the same packets agrees on every checksum and length.
#[test]
fn checksums_are_those_of_the_packet_builder() {
    let payload = |header: usize| (header..header + 8).map(|n| u8::try_from(n).unwrap()).collect::<Vec<_>>();
    let transport =
        |text: &str, ip_header: usize| read("p-1", text).bytes().unwrap()[14 + ip_header..].to_vec();
    let built = |builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, ip_header: usize| {
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &payload(8)).unwrap();
        bytes[ip_header..].to_vec()
    };
    let (a6, b6) = (
        "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets(),
        "2001:db8::2".parse::<Ipv6Addr>().unwrap().octets(),
    );
    let udp = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1000, 53);
    assert_eq!(transport("udp 10.0.0.1:1000>10.0.0.2:53", 20), built(udp, 20));
    let udp = PacketBuilder::ipv6(a6, b6, 64).udp(1000, 53);
    assert_eq!(transport("udp [2001:db8::1]:1000>[2001:db8::2]:53", 40), built(udp, 40));

    let mut tcp = Vec::new();
    let builder = PacketBuilder::ipv6(a6, b6, 64).tcp(1000, 80, 1001, 65535).ack(1001);
    builder.write(&mut tcp, &payload(20)).unwrap();
    assert_eq!(transport("tcp [2001:db8::1]:1000>[2001:db8::2]:80 A", 40), tcp[40..]);

    let mut echo = Vec::new();
    PacketBuilder::ipv6(a6, b6, 64).icmpv6_echo_request(7, 1).write(&mut echo, &payload(8)).unwrap();
    assert_eq!(transport("icmp6 2001:db8::1>2001:db8::2 echo-request id 7", 40), echo[40..]);
    let mut echo = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut echo, &payload(8))
        .unwrap();
    assert_eq!(transport("icmp 10.0.0.1>10.0.0.2 echo-request", 20), echo[20..]);
}

#[test]
fn the_parts_of_a_datagram_are_cut_out_of_it() {
    let whole = read("p-1", "udp 10.0.0.1:1>10.0.0.2:2 part 0+2992/3000").bytes().unwrap()[34..].to_vec();
    let parts = ["0+1480/3000", "1480+1480/3000", "2960+40/3000"].map(|part| {
        read("p-1", &format!("udp 10.0.0.1:1>10.0.0.2:2 part {part}")).bytes().unwrap()[34..].to_vec()
    });
    assert_eq!(parts.concat()[..2992], whole);
    assert_eq!(u16::from_be_bytes([whole[4], whole[5]]), 3000, "the UDP header speaks of the whole");
    assert!(
        read("p-1", "tcp 10.0.0.1:1>10.0.0.2:2 A part 0+8/16").bytes().is_err(),
        "no room for the header"
    );
}

fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(MacAddr)
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (a.into(), b.into()));
    let v6 = any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (a.into(), b.into()));
    prop_oneof![v4, v6]
}

fn with_ports() -> impl Strategy<Value = IpPacket> {
    let protocols = prop::sample::select(vec![6u8, 17, 33, 132, 136]);
    (addresses(), protocols, any::<(u16, u16, u8)>()).prop_map(
        |((src, dst), protocol, (sport, dport, flags))| {
            let tcp_flags = if protocol == 6 { flags } else { 0 };
            let transport = Transport::Ports { src: sport, dst: dport, tcp_flags };
            IpPacket { src, dst, protocol, fragment: Fragment::No, transport }
        },
    )
}

fn icmp() -> impl Strategy<Value = IpPacket> {
    (addresses(), any::<(u8, u8, Ipv6Addr)>(), with_ports()).prop_map(
        |((src, dst), (icmp_type, code, target), other)| {
            let family = if src.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
            let is_nd = family == Ethertype::Ipv6 && matches!(icmp_type, 135 | 136);
            let is_error = match family {
                Ethertype::Ipv4 => matches!(icmp_type, 3 | 4 | 5 | 11 | 12),
                Ethertype::Ipv6 => matches!(icmp_type, 1..=4),
            };
            let quoted = (is_error && other.ethertype() == family).then(|| other.tuple());
            let transport = Transport::Icmp { icmp_type, code, nd_target: is_nd.then_some(target), quoted };
            IpPacket { src, dst, protocol: family.icmp(), fragment: Fragment::No, transport }
        },
    )
}

fn portless() -> impl Strategy<Value = IpPacket> {
    (addresses(), prop::sample::select(vec![2u8, 47, 50, 89, 112])).prop_map(|((src, dst), protocol)| {
        IpPacket { src, dst, protocol, fragment: Fragment::No, transport: Transport::None }
    })
}

fn datagram() -> impl Strategy<Value = Datagram> {
    let parts = [(0, 1400, 2000), (0, 1400, 3000), (1400, 1400, 3000), (2800, 200, 3000)];
    let part =
        prop::sample::select(parts.map(|(offset, length, total)| Part { offset, length, total }).to_vec());
    let extensions = prop::collection::vec(prop::sample::select(vec![0u8, 43, 60]), 0..3);
    let packet = prop_oneof![with_ports(), icmp(), portless()];
    (packet, extensions, 0..=u16::MAX, prop::option::of(part)).prop_map(|(packet, extensions, id, part)| {
        let extensions = if packet.src.is_ipv4() { Vec::new() } else { extensions };
        Datagram { packet, extensions, id, part }
    })
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let arp = (1u16..=2, mac(), any::<(Ipv4Addr, Ipv4Addr)>(), mac())
        .prop_map(|(op, sha, (spa, tpa), tha)| Body::Arp(Arp { op, sha, spa, tha, tpa }));
    let other = prop::sample::select(vec![0x88ccu16, 0x8847, 0x0842, 0x9000]).prop_map(Body::Other);
    let body = prop_oneof![arp, Just(Body::Rarp), other, datagram().prop_map(Body::Ip)];
    let tag = (prop::bool::ANY, 0u16..4096)
        .prop_map(|(service, vid)| Tag { ethertype: if service { SERVICE_TAG } else { CUSTOMER_TAG }, vid });
    (mac(), mac(), prop::collection::vec(tag, 0..3), body).prop_map(|(eth_src, eth_dst, tags, body)| Sketch {
        eth_src,
        eth_dst,
        tags,
        body,
    })
}

proptest! {
    #[test]
    fn text_reads_back(sketch in sketch()) {
        prop_assert_eq!(names().read("nobody", &sketch.to_string()), Ok(sketch));
    }

    #[test]
    fn bytes_read_back_as_the_evaluator_sees_them(sketch in sketch()) {
        prop_assert_eq!(frame_bytes::read(&sketch.bytes().unwrap()), Some(sketch.frame()));
    }

    #[test]
    fn a_frame_of_the_evaluator_has_bytes(sketch in sketch()) {
        let frame = sketch.frame();
        let bytes = Sketch::from(&frame).bytes().unwrap();
        prop_assert_eq!(frame_bytes::read(&bytes), Some(frame));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), ethertype in 0usize..4) {
        let mut bytes = bytes;
        if let Some(field) = bytes.get_mut(12..14) {
            field.copy_from_slice(&[[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]][ethertype]);
        }
        prop_assert_eq!(frame_bytes::read(&bytes).is_some(), bytes.len() >= if ethertype == 3 { 18 } else { 14 });
    }
}
