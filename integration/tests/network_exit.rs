//! Where a network leaves without a tag of ours (the untagged network by trunks, any network by its access ports), a tag
//! that a trusted guest sets must not carry its frame into another network. The language of the cases has no words for
//! it. Needs root.

use integration::{Firewall, PageFirewall as _};
use tests::case::{Binding, Config};

const POLICY: &str = r#"
security_groups: []
ports:
- {id: p-1, network_id: n, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [],
   port_security_enabled: false}
"#;

/// IPv4 of protocol 253 (for experiments, RFC 3692) behind these tags.
fn frame(tags: &[[u8; 4]]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 0xfa, 0x16, 0x3e, 0, 0, 1];
    frame.extend(tags.concat());
    frame.extend([8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0x65, 0xd6, 10, 0, 0, 1, 10, 0, 0, 9]);
    frame.resize(60, 0);
    frame
}

fn host(vlan: Option<u16>) -> Firewall {
    let guest = Binding {
        port_id: Some("p-1".to_owned()),
        interface: "tap1".to_owned(),
        ofport: 1,
        tag: vlan,
        uplink: false,
    };
    let uplink =
        Binding { port_id: None, interface: "uplink".to_owned(), ofport: 100, tag: vlan, uplink: true };
    let mut firewall = Firewall::start(&[guest, uplink], &Config::default()).expect("a switch");
    let policy = policy::document::parse(&[("policy.yaml", POLICY)], None).policy;
    firewall.put_in_force(&policy).expect("in force");
    firewall
}

#[test]
fn a_guests_tag_does_not_lead_into_another_network() {
    // An uplink without a tag is a trunk, one with a tag an access port of that network.
    for vlan in [None, Some(20)] {
        let firewall = host(vlan);
        let (vlan_0, vlan_10, service_10) = ([0x81, 0, 0, 0], [0x81, 0, 0, 10], [0x88, 0xa8, 0, 10]);
        for tags in
            [&[vlan_10][..], &[service_10], &[vlan_0, vlan_10], &[vlan_0, service_10], &[vlan_10, vlan_10]]
        {
            firewall.receive("p-1", &frame(tags)).expect("sent");
            assert!(
                firewall.sighting().expect("a look").is_empty(),
                "{vlan:?}: {tags:02x?} left the network"
            );
        }
        for tags in [&[][..], &[vlan_0]] {
            firewall.receive("p-1", &frame(tags)).expect("sent");
            let seen = firewall.sighting().expect("a look");
            assert_eq!(seen["uplink"].len(), 1, "{vlan:?}: {tags:02x?}");
            assert_eq!(
                seen["uplink"][0][..34],
                frame(&[])[..34],
                "{vlan:?}: {tags:02x?} leaves without a tag"
            );
        }
    }
}
