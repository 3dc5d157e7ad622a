//! The host of the hybrid bridge that drivers are tried on does with frames nothing by itself. Needs root.

use std::collections::BTreeMap;
use std::path::Path;

use integration::{BRIDGE, HybridFirewall, Open, PageFirewall as _, Switch, holds_on_hybrid};
use lab::{Emerged, HybridHost, HybridSpec, at_access_port};
use policy::Policy;
use tests::case::{Binding, Config};
use tests::frame_text::Names;

fn frame(text: &str) -> Vec<u8> {
    Names::new(&Policy::default()).read("", text).expect(text).bytes().expect(text)
}

/// Every kind of frame that a rule may be about, and some that a careless device would mend, merge or cut.
fn frames() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = [
        "arp fa:16:3e:00:00:01>broadcast request spa=10.0.0.1 tpa=10.0.0.2",
        "rarp fa:16:3e:00:00:01>broadcast",
        "udp fa:16:3e:00:00:01>broadcast 0.0.0.0:68>255.255.255.255:67",
        "udp fa:16:3e:00:00:01>01:00:5e:00:00:fb 10.0.0.1:5353>224.0.0.251:5353",
        "udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53",
        "udp fa:16:3e:00:00:01>02:00:00:00:00:09 10.0.0.1:1000>192.0.2.1:53",
        "tcp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:80 S",
        "tcp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:80 PA",
        "tcp fa:16:3e:00:00:01>fa:16:3e:00:00:02 [2001:db8::1]:1000>[2001:db8::2]:80 S",
        "icmp6 fa:16:3e:00:00:01>33:33:00:00:00:16 fe80::1>ff02::16 listener-report-v2 ext 0",
        "sctp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:80",
        "proto fa:16:3e:00:00:01>fa:16:3e:00:00:02 47 10.0.0.1>10.0.0.2",
        "udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53 part 1480+1320/2800",
        "udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53 part 0+1480/2800",
        "udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 [2001:db8::1]:1000>[2001:db8::2]:53 part 0+1448/2800",
        "vlan 20 udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53",
        "vlan 0 udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53",
        "vlan 0 vlan 20 udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53",
        "svlan 20 udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53",
        "ethertype fa:16:3e:00:00:01>fa:16:3e:00:00:02 0x88cc",
        "ethertype fa:16:3e:00:00:01>01:00:0c:cc:cc:cd 0x8847",
    ]
    .map(frame)
    .into();
    let mut wrong_sum = frame("udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53");
    *wrong_sum.last_mut().expect("a frame has bytes") ^= 0xff;
    frames.push(wrong_sum);
    // As much as a device takes, and as little.
    frames.push([&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb6], &[7; 1500]].concat());
    frames.push([&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb6]].concat());
    frames
}

/// p-1, p-2 and p-3 on VLAN 10, p-4 on VLAN 20.
fn host() -> HybridHost {
    let specs =
        [("p-1", 10), ("p-2", 10), ("p-3", 10), ("p-4", 20)].map(|(id, tag)| HybridSpec::new(id, tag));
    HybridHost::start(&specs).expect("a host")
}

fn emerged(vms: &[&str], network: Option<u16>, frame: &[u8]) -> Emerged {
    let each: BTreeMap<String, Vec<Vec<u8>>> =
        vms.iter().map(|id| ((*id).to_owned(), vec![frame.to_vec()])).collect();
    Emerged { vms: each, network: network.map(|vlan| (vlan, frame.to_vec())).into_iter().collect() }
}

#[test]
fn a_frame_comes_to_its_network_as_it_was_sent_and_to_no_other() {
    let host = host();
    for frame in frames() {
        host.send_from_vm("p-1", &frame).expect("sent");
        let taken = at_access_port(frame.clone());
        assert_eq!(host.take_emerged().expect("a look"), emerged(&["p-2", "p-3"], Some(10), &taken));
        host.send_from_vm("p-4", &frame).expect("sent");
        assert_eq!(host.take_emerged().expect("a look"), emerged(&[], Some(20), &taken));
        host.send_from_network(10, &frame).expect("sent");
        assert_eq!(host.take_emerged().expect("a look"), emerged(&["p-1", "p-2", "p-3"], None, &frame));
        host.send_from_network(30, &frame).expect("sent");
        assert_eq!(host.take_emerged().expect("a look"), Emerged::default());
    }
}

#[test]
fn a_switch_that_knows_a_station_hands_its_frames_to_its_ports_alone() {
    let mut host = host();
    let mac = "fa:16:3e:00:00:02".parse().expect("a MAC");
    host.know([((10, mac), ["p-1", "p-2"].map(str::to_owned).into())].into());
    let frame = frame("udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53");
    for (from, vms, network) in
        [("p-1", vec!["p-2"], None), ("p-3", vec!["p-1", "p-2"], None), ("p-4", vec![], Some(20))]
    {
        host.send_from_vm(from, &frame).expect("sent");
        assert_eq!(host.take_emerged().expect("a look"), emerged(&vms, network, &frame), "{from}");
    }
    host.send_from_network(10, &frame).expect("sent");
    assert_eq!(host.take_emerged().expect("a look"), emerged(&["p-1", "p-2"], None, &frame));
}

#[test]
fn many_frames_come_all_and_in_order() {
    let host = host();
    let numbered = |number: u16| {
        [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb6], &number.to_be_bytes(), &[0; 44]].concat()
    };
    let frames: Vec<Vec<u8>> = (0..500).map(numbered).collect();
    for frame in &frames {
        host.send_from_vm("p-1", frame).expect("sent");
    }
    let seen = host.take_emerged().expect("a look");
    assert_eq!(seen.vms.keys().collect::<Vec<_>>(), ["p-2", "p-3"]);
    assert!(seen.vms.values().all(|of_vm| *of_vm == frames));
    assert_eq!(seen.network.len(), frames.len());
}

#[test]
fn ports_come_and_go() {
    let mut host = host();
    let frame = frame("arp fa:16:3e:00:00:01>broadcast request spa=10.0.0.1 tpa=10.0.0.2");
    host.unplug("p-2").expect("it is there");
    host.unplug("p-2").expect_err("it was taken away");
    host.send_from_vm("p-2", &frame).expect_err("it was taken away");
    host.plug(&[HybridSpec::new("p-5", 10), HybridSpec::new("p-2", 20)]).expect("there is room");
    host.send_from_vm("p-1", &frame).expect("sent");
    assert_eq!(host.take_emerged().expect("a look"), emerged(&["p-3", "p-5"], Some(10), &frame));
    host.send_from_vm("p-4", &frame).expect("sent");
    assert_eq!(host.take_emerged().expect("a look"), emerged(&["p-2"], Some(20), &frame));
}

/// The reasons why this bed is a host for a driver: its bridges' frames go through iptables, in its own namespace alone.
#[test]
fn the_bridges_show_their_frames_to_iptables() {
    let (host, other) = (host(), host());
    for tables in ["iptables", "ip6tables"] {
        let mut command = std::process::Command::new(tables);
        command.args(["-P", "FORWARD", "DROP"]);
        lab::process::run(command, Some(host.netns())).expect("it is installed");
    }
    for text in [
        "udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 10.0.0.1:1000>10.0.0.2:53",
        "udp fa:16:3e:00:00:01>fa:16:3e:00:00:02 [2001:db8::1]:1000>[2001:db8::2]:53",
    ] {
        let frame = frame(text);
        host.send_from_vm("p-1", &frame).expect("sent");
        assert_eq!(host.take_emerged().expect("a look"), Emerged::default(), "{text}");
        other.send_from_vm("p-1", &frame).expect("sent");
        assert_eq!(other.take_emerged().expect("a look"), emerged(&["p-2", "p-3"], Some(10), &frame));
    }
}

#[test]
fn a_driver_finds_the_ports_in_the_database() {
    let port = |n: u16| Binding {
        port_id: Some(format!("3f0a5c1e-77d2-4e5b-9c1a-00000000000{n}").replace("3f", &format!("{n}f"))),
        interface: format!("tap{n}"),
        ofport: n.into(),
        tag: Some(10),
        uplink: false,
    };
    let uplink =
        Binding { port_id: None, interface: "uplink".to_owned(), ofport: 100, tag: None, uplink: true };
    let bindings = [port(1), port(2), uplink];
    let firewall = HybridFirewall::<Open>::start(&bindings, &Config::default()).expect("a host");
    let ports = firewall.ovs().vsctl(&["list-ports", BRIDGE]).expect("the bridge");
    assert_eq!(ports.lines().collect::<Vec<_>>(), ["qvo1f0a5c1e-77", "qvo2f0a5c1e-77", "uplink"]);
    let get = ["get", "Interface", "qvo2f0a5c1e-77", "external_ids:iface-id", "ofport"];
    let interface = firewall.ovs().vsctl(&get).expect("the interface");
    assert_eq!(interface.lines().collect::<Vec<_>>(), ["\"2f0a5c1e-77d2-4e5b-9c1a-000000000002\"", "2"]);
    let tag = firewall.ovs().vsctl(&["get", "Port", "qvo2f0a5c1e-77", "tag"]).expect("the port");
    assert_eq!(tag.trim(), "10");
    let on_host = firewall.host().port("2f0a5c1e-77d2-4e5b-9c1a-000000000002").expect("the port");
    assert_eq!(on_host.tap(), "tap2f0a5c1e-77");
}

const PAGE: &str = r#"# A trusted port and a filtered one

```yaml policy
security_groups:
- {id: sg-1, name: sg-1, security_group_rules: [{id: r1, direction: ingress, ethertype: IPv4, protocol: udp}]}
ports:
- {id: p-1, network_id: net-1, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [],
   port_security_enabled: false}
- {id: p-2, network_id: net-1, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [sg-1]}
- {id: p-3, network_id: net-1, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.0.0.3}], security_groups: [],
   port_security_enabled: false}
```

```packets
p-1: udp 10.0.0.1:1000>10.0.0.2:53 => deliver p-2 by r1
p-1: arp request spa=10.0.0.1 tpa=10.0.0.2 => deliver p-2 p-3 uplink
uplink: vlan 10 udp 10.0.0.9:1000>10.0.0.2:53 id 7 part 0+1400/2000 => deliver p-2 by r1
uplink: vlan 10 udp 10.0.0.9:1000>10.0.0.2:53 id 7 part 1400+600/2000 => deliver p-2 by r1
```
"#;

#[test]
fn a_page_holds_where_each_frame_comes_out_where_it_says_and_nowhere_else() {
    let holds = |page: &str, switch: Switch| {
        holds_on_hybrid::<Open>(Path::new("page.md"), page, switch).map_err(|error| error.to_string())
    };
    assert_eq!(holds(PAGE, Switch::Knows), Ok(()));
    assert_eq!(holds(PAGE, Switch::Floods), Ok(()));
    for (right, wrong, line) in [
        (
            "udp 10.0.0.1:1000>10.0.0.2:53 => deliver p-2 by r1",
            "tcp 10.0.0.1:1000>10.0.0.2:53 S => ingress p-2 drop no-rule",
            15,
        ),
        (
            "udp 10.0.0.1:1000>10.0.0.2:53 => deliver p-2 by r1",
            "udp 10.0.0.1:1000>10.0.0.2:53 => egress drop no-rule",
            15,
        ),
        ("deliver p-2 p-3 uplink", "deliver p-3 uplink; ingress p-2 drop no-rule", 16),
        ("part 1400+600/2000 => deliver p-2 by r1", "part 1400+600/2000 => ingress p-2 drop no-rule", 17),
    ] {
        for switch in [Switch::Knows, Switch::Floods] {
            let told = holds(&PAGE.replace(right, wrong), switch).expect_err("one line is wrong");
            assert!(told.starts_with(&format!("line {line}: ")), "{told}");
            assert_eq!(told.matches("expected: ").count(), 1, "{told}");
        }
    }
}
