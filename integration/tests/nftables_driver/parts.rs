//! Parts of datagrams that show no ports, whatever stands where ports would be.

use policy::Policy;
use tests::frame_text::Names;

use crate::bed::Bed;
use crate::support::parsed;

const POLICY: &str = "
security_groups:
- {id: stateful, security_group_rules: [{id: r1, direction: ingress, ethertype: IPv4, protocol: tcp}]}
- {id: stateless, stateful: false, security_group_rules: [
    {id: r2, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 67, port_range_max: 68},
    {id: r3, direction: ingress, ethertype: IPv6, protocol: icmp, port_range_min: 135}]}
ports:
- {id: p0, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{ip_address: 9.0.0.2}], security_groups: [stateful]}
- {id: p1, network_id: n, mac_address: 'fa:16:3e:00:00:02', fixed_ips: [{ip_address: 9.0.0.3}], security_groups: [stateless]}
";

/// Behind Ethernet's header, and IPv4's or IPv6's.
const IPV4_PAYLOAD: usize = 34;
const IPV6_FRAGMENT: usize = 54;

fn frame(text: &str) -> Vec<u8> {
    Names::new(&Policy::default()).read("", text).expect(text).bytes().expect(text)
}

/// A later part of a datagram over UDP that has DHCP's ports there.
fn like_dhcp(mac: &str, to: &str) -> Vec<u8> {
    let text = format!("udp fa:16:3e:00:00:09>{mac} 9.0.0.9:1>{to}:2 id 7 part 1480+1320/2800");
    let mut frame = frame(&text);
    frame[IPV4_PAYLOAD..IPV4_PAYLOAD + 4].copy_from_slice(&[0, 67, 0, 68]);
    frame
}

/// A later part of a datagram over ICMPv6 that has a neighbour solicitation's type there.
fn like_solicitation(mac: &str, to: &str) -> Vec<u8> {
    let text = format!("udp fa:16:3e:00:00:09>{mac} [fd00::9]:1>[{to}]:2 part 1448+1352/2800");
    let mut frame = frame(&text);
    frame[IPV6_FRAGMENT] = 58;
    frame[IPV6_FRAGMENT + 8..IPV6_FRAGMENT + 10].copy_from_slice(&[135, 0]);
    frame
}

#[test]
fn a_later_part_is_not_taken_for_what_passes_without_rules_or_by_ports() {
    let mut bed = Bed::start(&["p0", "p1"]);
    bed.put_in_force(&parsed(POLICY));
    for (port, mac, ip, ip6) in
        [("p0", "fa:16:3e:00:00:01", "9.0.0.2", "fd00::2"), ("p1", "fa:16:3e:00:00:02", "9.0.0.3", "fd00::3")]
    {
        let gets = |frame: &[u8]| {
            bed.host().send_from_network(10, frame).expect("sent");
            bed.host().take_emerged().expect("a look").vms.contains_key(port)
        };
        assert!(gets(&frame(&format!("udp fa:16:3e:00:00:09>{mac} 9.0.0.9:67>{ip}:68"))), "{port}");
        assert!(!gets(&like_dhcp(mac, ip)), "{port}");
        assert!(!gets(&like_solicitation(mac, ip6)), "{port}");
    }
}
