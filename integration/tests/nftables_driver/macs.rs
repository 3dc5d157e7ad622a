//! A connection that two rules admit, the one by a member that counts only with its MAC, the other by addresses alone.

use policy::Policy;
use tests::frame_text::Names;

use crate::bed::Bed;
use crate::support::parsed;

/// The groups are asked in the order of their ids.
const POLICY: &str = "
security_groups:
- {id: a, security_group_rules: [{id: r1, direction: egress, ethertype: IPv4, protocol: udp, remote_group_id: routers}]}
- {id: b, security_group_rules: [{id: r2, direction: egress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53}]}
- {id: routers, security_group_rules: []}
ports:
- {id: p0, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{ip_address: 9.0.0.2}], security_groups: [a, b]}
- {id: p1, network_id: n, mac_address: 'fa:16:3e:00:00:02', fixed_ips: [{ip_address: 9.0.0.3}], security_groups: [a]}
- {id: m, network_id: n, mac_address: 'fa:16:3e:00:00:09', fixed_ips: [{ip_address: 9.0.0.9}], security_groups: [routers],
   allowed_address_pairs: [{ip_address: 128.0.0.0/1}]}
";

fn frame(text: &str) -> Vec<u8> {
    Names::new(&Policy::default()).read("", text).expect(text).bytes().expect(text)
}

#[test]
fn who_is_admitted_by_its_address_too_need_not_show_its_mac() {
    let mut bed = Bed::start(&["p0", "p1"]);
    bed.put_in_force(&parsed(POLICY));
    let leaves = |port: &str, from: &str, to: &str| {
        let own = if port == "p0" { "9.0.0.2" } else { "9.0.0.3" };
        let text = format!("udp {from}>{to} {own}:1000>198.51.100.1:53");
        bed.host().send_from_vm(port, &frame(&text)).expect("sent");
        !bed.host().take_emerged().expect("a look").network.is_empty()
    };
    let (member, another) = ("fa:16:3e:00:00:09", "02:00:00:00:00:99");
    // By both rules first, then by the one.
    assert!(leaves("p0", "fa:16:3e:00:00:01", member) && leaves("p0", "fa:16:3e:00:00:01", another));
    assert!(leaves("p1", "fa:16:3e:00:00:02", member) && !leaves("p1", "fa:16:3e:00:00:02", another));
    assert!(leaves("p1", "fa:16:3e:00:00:02", member));
}
