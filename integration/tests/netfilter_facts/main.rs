//! What the kernel promises about frames that go over a bridge of their own, and about its tracker: what drivers for the hybrid
//! bridge build on. Needs root, iptables of both kinds, ipset(8) and nft(8).

mod bed;

use bed::{BOTH, Bed, ONE, TWO, frame};
use conntrack::Status;
use integration::joined_parts;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// The most IP that a device takes.
const MTU: usize = 1500;

#[test]
fn rules_match_the_bridges_port_and_a_set_of_addresses() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        for (tables, family, set, net) in
            [("iptables", "inet", "four", "10.0.0.0/24"), ("ip6tables", "inet6", "six", "2001:db8::/64")]
        {
            bed.run(&format!("ipset create {set} hash:net family {family}"));
            bed.run(&format!("ipset add {set} {net}"));
            for (port, which) in [("--physdev-in tapp-1", "dst"), ("--physdev-out tapp-1", "src")] {
                let rule = format!(
                    "-m physdev {port} --physdev-is-bridged -m set --match-set {set} {which} -j DROP"
                );
                bed.run(&format!("{tables} -A FORWARD {rule}"));
            }
        }
        for (here, in_set, elsewhere) in
            [("10.0.1.1", "10.0.0.2", "10.0.1.2"), ("[2001:db8:1::1]", "[2001:db8::2]", "[2001:db8:1::2]")]
        {
            let one = |to: &str| format!("udp {ONE} {here}:1000>{to}:53");
            assert!(!bed.passes("p-1", &one(in_set)), "{variant}: from tapp-1 to the set");
            assert!(bed.passes("p-1", &one(elsewhere)), "{variant}: from tapp-1 elsewhere");
            let two = |from: &str, to: &str| format!("udp {TWO} {from}:1000>{to}:53");
            assert!(!bed.passes("p-2", &two(in_set, here)), "{variant}: from the set to tapp-1");
            assert!(bed.passes("p-2", &two(here, in_set)), "{variant}: the other port, or the other end");
        }
    }
}

#[test]
fn each_port_has_a_zone_of_its_own_in_both_directions() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        for (port, zone) in [("p-1", 7), ("p-2", 8)] {
            for device in ["tap", "qvb"] {
                let rule = format!("-m physdev --physdev-in {device}{port} -j CT --zone {zone}");
                bed.both_families(&format!("-t raw -A PREROUTING {rule}"));
            }
        }
        for (one, two) in [("10.0.0.1", "10.0.0.2"), ("[2001:db8::1]", "[2001:db8::2]")] {
            assert!(bed.passes("p-1", &format!("udp {ONE} {one}:1000>{two}:53")));
            assert_eq!(zones(&bed), [(7, false), (8, false)], "{variant}: tracked twice");
            assert!(bed.passes("p-2", &format!("udp {TWO} {two}:53>{one}:1000")));
            assert_eq!(zones(&bed), [(7, true), (8, true)], "{variant}: the answer is known in both");
            bed.with_table(|table| {
                let mut all = Vec::new();
                table.dump(None, |connection| all.push(connection)).expect("a dump");
                table.delete(&all).expect("deleted");
            });
        }
    }
}

/// Zones of the tracked connections, and whether these have been answered, in order.
fn zones(bed: &Bed) -> Vec<(u16, bool)> {
    let connections = bed.connections();
    let mut zones: Vec<_> = connections.iter().map(|c| (c.zone, c.status.has(Status::SEEN_REPLY))).collect();
    zones.sort_unstable();
    zones
}

#[test]
fn what_is_not_to_be_tracked_is_not() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        bed.both_families(
            "-t raw -A PREROUTING -m physdev --physdev-in tapp-1 -p udp --dport 53 -j CT --notrack",
        );
        bed.both_families(
            "-A FORWARD -m physdev --physdev-in tapp-1 -m conntrack --ctstate UNTRACKED -j DROP",
        );
        for (one, two) in [("10.0.0.1", "10.0.0.2"), ("[2001:db8::1]", "[2001:db8::2]")] {
            assert!(!bed.passes("p-1", &format!("udp {ONE} {one}:1000>{two}:53")), "{variant}");
            assert_eq!(bed.connections(), [], "{variant}");
            assert!(bed.passes("p-1", &format!("udp {ONE} {one}:1000>{two}:54")), "{variant}");
            // Both bridges' frames are in zone 0 here: one connection.
            assert_eq!(bed.connections().len(), 1, "{variant}");
            bed.run("conntrack -F");
        }
    }
}

/// A rule with a port lets all parts pass, which it could not if it saw them one by one. There is no part too short.
#[test]
fn a_datagram_in_parts_is_seen_whole_and_comes_out_in_parts() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        bed.both_families("-A FORWARD -p udp --dport 53 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT");
        bed.both_families("-A FORWARD -j DROP");
        for ends in ["10.0.0.1:1000>10.0.0.2", "[2001:db8::1]:1000>[2001:db8::2]"] {
            for (id, cuts) in
                [(1, &[0, 1448, 2800][..]), (2, &[0, 800, 1600, 2800]), (3, &[0, 64, 1448, 2800])]
            {
                let parts = |port: u16| -> Vec<String> {
                    let part = |cut: &[u16]| {
                        format!("udp {ONE} {ends}:{port} id {id} part {}+{}/2800", cut[0], cut[1] - cut[0])
                    };
                    cuts.windows(2).map(part).collect()
                };
                // The first part last: order does not matter.
                let sent = parts(53);
                let mut got = Vec::new();
                for part in sent.iter().rev() {
                    assert_eq!(got, Vec::<Vec<u8>>::new(), "{variant}: held until it is whole");
                    got = bed.send("p-1", part);
                }
                let sent: Vec<Vec<u8>> = sent.iter().map(|part| frame(part)).collect();
                assert_eq!(joined_parts(&got), joined_parts(&sent), "{variant} {ends} {cuts:?}");
                assert!(got.iter().all(|frame| frame.len() <= ETHERNET + MTU));
                // In IPv6 they have another identification, and nothing else is otherwise.
                assert_eq!(got == sent, ends.starts_with("10."), "{variant} {ends} {cuts:?}");
                assert_eq!(got.len(), sent.len(), "{variant}: cut as before");
                assert!(parts(54).iter().all(|part| bed.send("p-1", part).is_empty()), "{variant}");
            }
        }
    }
}

/// They are whole already in the raw table (NF_IP_PRI_CONNTRACK_DEFRAG is before NF_IP_PRI_RAW), so that a rule sees the port also
/// where nothing is tracked.
#[test]
fn a_datagram_in_parts_is_whole_before_it_is_said_not_to_be_tracked() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        bed.both_families("-t raw -A PREROUTING -p udp --dport 53 -j CT --notrack");
        bed.both_families("-A FORWARD -p udp --dport 53 -m conntrack --ctstate UNTRACKED -j ACCEPT");
        bed.both_families("-A FORWARD -j DROP");
        for ends in ["10.0.0.1:1000>10.0.0.2", "[2001:db8::1]:1000>[2001:db8::2]"] {
            let [early, late] = [(0, 1448), (1448, 1352)]
                .map(|(from, length)| format!("udp {ONE} {ends}:53 part {from}+{length}/2800"));
            assert_eq!(bed.send("p-1", &early), Vec::<Vec<u8>>::new(), "{variant}");
            let got = bed.send("p-1", &late);
            assert_eq!(joined_parts(&got), joined_parts(&[frame(&early), frame(&late)]), "{variant} {ends}");
        }
        assert_eq!(bed.connections(), []);
    }
}

/// Datagrams in two parts that a switch hands to both ports, to a group or because it has not learned; and whether the kernel tells
/// apart where it gets them from by itself, as it does of addresses that mean something on one link alone
/// (net/ipv6/netfilter/nf_conntrack_reasm.c).
fn parts_to_both() -> [([String; 2], bool); 3] {
    [
        ("udp 02:00:00:00:00:09>01:00:5e:00:00:fb 10.0.0.9:5353>224.0.0.251:5353", false),
        ("udp 02:00:00:00:00:09>fa:16:3e:00:00:02 [2001:db8::9]:1000>[2001:db8::2]:53", false),
        ("udp 02:00:00:00:00:09>33:33:00:00:00:fb [fe80::9]:5353>[ff02::fb]:5353", true),
    ]
    .map(|(datagram, told)| {
        (["0+1448", "1448+1352"].map(|part| format!("{datagram} part {part}/2800")), told)
    })
}

/// A host has one place for the parts of all its bridges' datagrams, for they are put together before the raw table says the zone: the
/// second port's parts are taken for the first one's again, and lost.
#[test]
fn parts_that_come_to_two_ports_at_once_reach_one() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        for (port, zone) in [("p-1", 7), ("p-2", 8)] {
            bed.both_families(&format!(
                "-t raw -A PREROUTING -m physdev --physdev-in qvb{port} -j CT --zone {zone}"
            ));
        }
        for (parts, told_apart) in parts_to_both() {
            let sent = joined_parts(&parts.each_ref().map(|part| frame(part)));
            let [one, two] = bed.send_from_network(&parts);
            assert_eq!(joined_parts(&one), sent, "{variant}: {parts:?}");
            assert_eq!(
                joined_parts(&two),
                if told_apart { sent } else { Vec::new() },
                "{variant}: {parts:?}"
            );
        }
    }
}

/// Where the zone is known before, which a chain of nftables can say, each port has a place of its own (`nf_ct_defrag_user`,
/// net/ipv4/netfilter/nf_defrag_ipv4.c).
#[test]
fn parts_reach_every_port_where_the_zone_is_said_before_they_are_put_together() {
    let bed = Bed::new("nft");
    bed.nft(
        "table inet facts { chain early { type filter hook prerouting priority -450; \
         iifname qbrp-1 ct zone set 7; iifname qbrp-2 ct zone set 8; }; }",
    );
    for (parts, _) in parts_to_both() {
        let sent = parts.each_ref().map(|part| frame(part));
        for got in bed.send_from_network(&parts) {
            assert_eq!(joined_parts(&got), joined_parts(&sent), "{parts:?}");
        }
    }
}

/// Said before they are put together, that they are not to be tracked leaves parts as they are.
#[test]
fn parts_stay_apart_where_it_is_said_before_that_they_are_not_tracked() {
    let bed = Bed::new("nft");
    bed.nft(
        "table inet facts { chain early { type filter hook prerouting priority -450; udp sport 1000 notrack; \
         ip frag-off & 0x1fff != 0 notrack; frag frag-off != 0 notrack; }; \
         chain forward { type filter hook forward priority 0; ct state untracked udp dport 54 drop; \
         ct state invalid,new drop; }; }",
    );
    for ends in ["10.0.0.1:1000>10.0.0.2", "[2001:db8::1]:1000>[2001:db8::2]"] {
        for (part, port, passes) in
            [("0+1448", 53, true), ("1448+1352", 53, true), ("0+1448", 54, false), ("1448+1352", 54, true)]
        {
            let text = format!("udp {ONE} {ends}:{port} part {part}/2800");
            let got = bed.send("p-1", &text);
            assert_eq!(got, if passes { vec![frame(&text)] } else { Vec::new() }, "{text}");
        }
        // What is tracked is still put together.
        let other = ends.replace(":1000", ":1001");
        assert_eq!(bed.send("p-1", &format!("udp {ONE} {other}:53 part 0+1448/2800")), Vec::<Vec<u8>>::new());
    }
}

/// Without a rule that asks the tracker nobody holds parts together.
#[test]
fn parts_pass_one_by_one_where_nothing_is_tracked() {
    let bed = Bed::new("nft");
    bed.both_families("-A FORWARD -p udp --dport 54 -j DROP");
    let late = format!("udp {ONE} 10.0.0.1:1000>10.0.0.2:54 part 1480+1320/2800");
    assert!(bed.passes("p-1", &late));
    assert!(!bed.passes("p-1", &format!("udp {ONE} 10.0.0.1:1000>10.0.0.2:54 part 0+1480/2800")));
}

const HANDSHAKE: [(&str, &str, &str); 3] = [
    ("p-1", "10.0.0.1:1000>10.0.0.2:80", "S"),
    ("p-2", "10.0.0.2:80>10.0.0.1:1000", "SA"),
    ("p-1", "10.0.0.1:1000>10.0.0.2:80", "A"),
];

fn segment(from: &str, ends: &str, flags: &str) -> String {
    format!("tcp {} {ends} {flags}", if from == "p-1" { ONE } else { TWO })
}

fn shake_hands(bed: &Bed) {
    for (from, ends, flags) in HANDSHAKE {
        assert!(bed.passes(from, &segment(from, ends, flags)), "{flags}");
    }
}

#[test]
fn a_mark_ends_a_connection_in_both_directions_and_the_kernel_keeps_it() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        bed.run("iptables -A FORWARD -m connmark --mark 0xdead -j DROP");
        bed.run("iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,NEW -j ACCEPT");
        bed.idle_seconds("100");
        shake_hands(&bed);
        let before = bed.connections();
        assert_eq!(before.len(), 1);
        bed.idle_seconds("200");
        bed.with_table(|table| table.set_mark(&before, 0xdead).expect("marked"));
        for (from, ends, flags) in [HANDSHAKE[2], ("p-2", "10.0.0.2:80>10.0.0.1:1000", "PA")] {
            assert!(!bed.passes(from, &segment(from, ends, flags)), "{variant}: {from}");
        }
        let after = bed.connections();
        assert_eq!(after.len(), 1);
        assert_eq!(
            (after[0].id, after[0].mark, after[0].tcp_state),
            (before[0].id, 0xdead, before[0].tcp_state)
        );
        // The tracker comes before the rules, so that what they drop keeps the connection alive.
        assert!(after[0].timeout > Some(100), "{variant}: {:?}", after[0].timeout);
        // Another mark, and it passes again.
        bed.with_table(|table| table.set_mark(&before, 0).expect("marked"));
        assert!(bed.passes("p-2", &segment("p-2", "10.0.0.2:80>10.0.0.1:1000", "PA")), "{variant}");
    }
}

/// nf_conntrack_tcp_loose, on unless told otherwise: to delete a connection is not to end it.
#[test]
fn a_deleted_connection_is_picked_up_as_a_new_one_of_whoever_speaks() {
    let bed = Bed::new("nft");
    bed.run("iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,NEW -j ACCEPT");
    bed.run("iptables -A FORWARD -j DROP");
    shake_hands(&bed);
    let before = bed.connections();
    assert_eq!(bed.with_table(|table| table.delete(&before).expect("deleted")), 1);
    bed.run("iptables -I FORWARD -m conntrack --ctstate NEW -m connmark --mark 0 -j CONNMARK --set-mark 5");
    assert!(bed.passes("p-2", &segment("p-2", "10.0.0.2:80>10.0.0.1:1000", "PA")));
    let after = bed.connections();
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].mark, 5, "it was new");
    assert_eq!(after[0].original, before[0].reply, "its first packet is the server's");
}

#[test]
fn a_restore_without_flush_replaces_the_chains_it_names_and_no_others() {
    for variant in BOTH {
        let bed = Bed::new(variant);
        bed.restore(
            "*filter\n:sg-1 - [0:0]\n:sg-2 - [0:0]\n-A FORWARD -p tcp -j sg-1\n-A FORWARD -p udp -j sg-2\n\
             -A sg-1 -p tcp --dport 1 -j DROP\n-A sg-1 -p tcp --dport 2 -j DROP\n-A sg-2 -p udp --dport 1 -j DROP\nCOMMIT\n",
        );
        let saved = |chain: &str| -> Vec<String> {
            let text = bed.run("iptables-save -c -t filter");
            let begin = format!("-A {chain} ");
            text.lines().filter(|line| line.contains(&begin)).map(str::to_owned).collect()
        };
        assert!(!bed.passes("p-1", &format!("udp {ONE} 10.0.0.1:1000>10.0.0.2:1")));
        let (forward, others) = (saved("FORWARD"), saved("sg-2"));
        assert!(others[0].starts_with("[1:"), "{variant}: counted: {others:?}");
        bed.restore("*filter\n:sg-1 - [0:0]\n:sg-3 - [0:0]\n-A sg-1 -p tcp --dport 3 -j DROP\nCOMMIT\n");
        assert_eq!((saved("FORWARD"), saved("sg-2")), (forward, others), "{variant}: counters and all");
        let sg_1 = saved("sg-1");
        assert_eq!(sg_1.len(), 1, "{variant}: {sg_1:?}");
        assert!(sg_1[0].ends_with("-A sg-1 -p tcp -m tcp --dport 3 -j DROP"), "{sg_1:?}");
        // A text with a mistake in it changes nothing.
        let wrong = "*filter\n:sg-1 - [0:0]\n:sg-2 - [0:0]\n-A sg-1 -j nowhere\nCOMMIT\n";
        bed.try_restore(wrong).expect_err("no chain and no target of this name");
        assert_eq!(saved("sg-1"), sg_1, "{variant}");
    }
}

/// Figures for whoever reads the output; nothing is said of how many milliseconds they must be.
#[test]
fn one_chain_of_many_changes() {
    let chain = |port: usize, rules: usize| {
        let rule = |n: usize| format!("-A sg-{port} -p tcp -m tcp --dport {} -j RETURN\n", n + 1);
        (0..rules).map(rule).collect::<String>()
    };
    for variant in BOTH {
        let bed = Bed::new(variant);
        let mut text = String::from("*filter\n");
        (0..500).for_each(|port| text += &format!(":sg-{port} - [0:0]\n"));
        for port in 0..500 {
            text +=
                &format!("-A FORWARD -m physdev --physdev-out tap{port} --physdev-is-bridged -j sg-{port}\n");
            text += &chain(port, 25);
        }
        let all = bed.timed_restore(&(text + "COMMIT\n"));
        let one = format!("*filter\n:sg-250 - [0:0]\n{}COMMIT\n", chain(250, 5));
        let mut each: Vec<f64> = (0..5).map(|_| bed.timed_restore(&one)).collect();
        each.sort_by(f64::total_cmp);
        println!(
            "iptables-{variant}-restore, 500 chains of 25 rules: all {all:.0} ms, one chain of 5 rules {:.0} ms",
            each[2]
        );
        assert_eq!(bed.run("iptables-save -t filter").matches("-A sg-250 ").count(), 5);
    }
}

#[test]
fn frames_that_iptables_never_sees() {
    let bed = Bed::new("nft");
    bed.both_families("-P FORWARD DROP");
    bed.both_families("-t raw -P PREROUTING DROP");
    for seen in [
        format!("udp {ONE} 10.0.0.1:1000>10.0.0.2:53"),
        format!("udp {ONE} [2001:db8::1]:1000>[2001:db8::2]:53"),
        format!("icmp6 {ONE} fe80::1>fe80::2 neighbour-solicitation target fe80::2"),
        "udp fa:16:3e:00:00:01>broadcast 0.0.0.0:68>255.255.255.255:67".to_owned(),
    ] {
        assert!(!bed.passes("p-1", &seen), "{seen}");
    }
    for unseen in [
        "arp fa:16:3e:00:00:01>broadcast request spa=10.0.0.1 tpa=10.0.0.2".to_owned(),
        format!("arp {ONE} reply spa=10.0.0.1 tpa=10.0.0.2"),
        "rarp fa:16:3e:00:00:01>broadcast".to_owned(),
        format!("vlan 20 udp {ONE} 10.0.0.1:1000>10.0.0.2:53"),
        format!("svlan 20 udp {ONE} [2001:db8::1]:1000>[2001:db8::2]:53"),
        format!("ethertype {ONE} 0x88cc"),
        format!("ethertype {ONE} 0x8847"),
    ] {
        assert!(bed.passes("p-1", &unseen), "{unseen}");
    }
    // Behind its own bridge the switch takes the tag away, and the other port's bridge shows it.
    let priority = format!("vlan 0 udp {ONE} 10.0.0.1:1000>10.0.0.2:53");
    assert!(bed.leaves("p-1", &priority) && !bed.passes("p-1", &priority));
}

/// IEEE 802.1Q, table 8-1: a bridge keeps LLDP to itself, unless told otherwise, whatever ethertypes are permitted.
#[test]
fn a_bridge_hands_on_lldp_if_it_is_told_to() {
    let bed = Bed::new("nft");
    let lldp = "ethertype fa:16:3e:00:00:01>01:80:c2:00:00:0e 0x88cc";
    assert!(!bed.passes("p-1", lldp));
    for bridge in ["qbrp-1", "qbrp-2"] {
        bed.run(&format!("ip link set {bridge} type bridge group_fwd_mask 0x4000"));
    }
    assert!(bed.passes("p-1", lldp));
}

/// bridge(8), `flood` and `fdb`: iptables knows no destination MAC, but the bridge itself does.
#[test]
fn a_port_that_is_not_flooded_gets_frames_to_the_macs_it_is_given_and_to_groups() {
    let bed = Bed::new("nft");
    let (own, other) = ("fa:16:3e:00:00:01", "02:00:00:00:00:77");
    bed.run("bridge link set dev tapp-1 flood off");
    let to = |mac: &str| format!("udp 02:00:00:00:00:09>{mac} 10.0.0.9:1000>10.0.0.1:53");
    let gets = |text: String| bed.send_to_one(&text);
    assert!(!gets(to(own)) && !gets(to(other)));
    bed.run(&format!("bridge fdb add {own} dev tapp-1 master static"));
    assert!(gets(to(own)) && !gets(to(other)));
    assert!(gets(to("ff:ff:ff:ff:ff:ff")) && gets(to("01:00:5e:00:00:fb")));
    // What it sends goes out as before.
    assert!(bed.passes("p-1", &format!("udp {ONE} 10.0.0.1:1000>10.0.0.2:53")));
}

/// bridge(8), `locked` (since 5.18): a source MAC that is not the port's comes no further, whatever the frame carries.
#[test]
fn a_locked_port_sends_from_the_macs_it_is_given() {
    let bed = Bed::new("nft");
    bed.run("bridge link set dev tapp-1 locked on learning off");
    bed.run("bridge fdb add fa:16:3e:00:00:01 dev tapp-1 master static");
    for frame in ["rarp", "ethertype", "vlan 20 udp", "udp"] {
        for (mac, passes) in [("fa:16:3e:00:00:01", true), ("fa:16:3e:00:00:66", false)] {
            let rest = match frame {
                "rarp" => "",
                "ethertype" => "0x88cc",
                _ => "10.0.0.1:1000>10.0.0.2:53",
            };
            let text = format!("{frame} {mac}>ff:ff:ff:ff:ff:ff {rest}");
            // A tagged frame is not looked up under its tag where the bridge knows no VLANs.
            assert_eq!(bed.passes("p-1", &text), passes, "{text}");
        }
    }
}

/// What the kernel's tracker calls a frame that it sees without any before it, or after one that it knows. Where that is not what the
/// userspace tracker of Open vSwitch says, and a page turns on it, the page is in `integration::ABOUT_OPEN_VSWITCH`.
#[test]
fn what_the_tracker_calls_frames() {
    let bed = Bed::new("nft");
    for state in STATES {
        bed.both_families(&format!(
            "-A FORWARD -m physdev --physdev-in tapp-1 -m conntrack --ctstate {state} -j ACCEPT"
        ));
        bed.both_families(&format!(
            "-A FORWARD -m physdev --physdev-out tapp-1 -m conntrack --ctstate {state} -j ACCEPT"
        ));
    }
    for port in ["p-1", "p-2"] {
        for device in ["tap", "qvb"] {
            let rule =
                format!("-m physdev --physdev-in {device}{port} -j CT --zone {}", port.replace("p-", ""));
            bed.both_families(&format!("-t raw -A PREROUTING {rule}"));
        }
    }
    for (from, text, state) in CALLED {
        bed.both_families("-Z FORWARD");
        let text = format!("{} {}", text.0, [if from == "p-1" { ONE } else { TWO }, text.1].join(" "));
        bed.send(from, &text);
        assert_eq!(counted(&bed), [state], "{text}");
    }
}

const STATES: [&str; 5] = ["NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"];

/// Sender, kind and rest of a frame, and its state; in order.
const CALLED: [(&str, (&str, &str), &str); 31] = [
    ("p-1", ("tcp", "10.0.0.1:1>10.0.0.2:80 SA"), "INVALID"),
    ("p-1", ("tcp", "10.0.0.1:2>10.0.0.2:80 -"), "INVALID"),
    ("p-1", ("tcp", "10.0.0.1:3>10.0.0.2:80 SF"), "INVALID"),
    ("p-1", ("tcp", "10.0.0.1:4>10.0.0.2:80 A"), "NEW"),
    ("p-1", ("tcp", "10.0.0.1:5>10.0.0.2:0 S"), "NEW"),
    ("p-1", ("udp", "10.0.0.1:6>10.0.0.2:0"), "NEW"),
    ("p-1", ("udp", "10.0.0.1:7>10.0.0.2:53"), "NEW"),
    ("p-2", ("udp", "10.0.0.2:53>10.0.0.1:7"), "ESTABLISHED"),
    ("p-2", ("icmp", "10.0.0.2>10.0.0.1 3/3 about udp 10.0.0.1:7>10.0.0.2:53"), "RELATED"),
    ("p-2", ("icmp", "10.0.0.2>10.0.0.1 3/3 about udp 10.0.0.1:8>10.0.0.2:53"), "INVALID"),
    ("p-2", ("icmp", "10.0.0.2>10.0.0.1 echo-reply id 9"), "INVALID"),
    ("p-2", ("icmp", "10.0.0.2>10.0.0.1 5/0"), "INVALID"),
    ("p-1", ("icmp", "10.0.0.1>10.0.0.2 8/1 id 10"), "NEW"),
    ("p-2", ("icmp", "10.0.0.2>10.0.0.1 0/1 id 10"), "ESTABLISHED"),
    ("p-1", ("icmp", "10.0.0.1>10.0.0.2 echo-request id 11"), "NEW"),
    ("p-2", ("icmp", "10.0.0.2>10.0.0.1 echo-reply id 11"), "ESTABLISHED"),
    ("p-1", ("sctp", "10.0.0.1:12>10.0.0.2:80"), "NEW"),
    ("p-2", ("sctp", "10.0.0.2:80>10.0.0.1:12"), "ESTABLISHED"),
    ("p-2", ("sctp", "10.0.0.2:81>10.0.0.1:12"), "NEW"),
    ("p-1", ("proto", "47 10.0.0.1>10.0.0.2"), "NEW"),
    ("p-2", ("proto", "47 10.0.0.2>10.0.0.1"), "ESTABLISHED"),
    ("p-1", ("udp", "[2001:db8::1]:13>[2001:db8::2]:53"), "NEW"),
    ("p-2", ("icmp6", "2001:db8::2>2001:db8::1 1/4 about udp [2001:db8::1]:13>[2001:db8::2]:53"), "RELATED"),
    ("p-2", ("icmp6", "2001:db8::2>2001:db8::1 1/4 about udp [2001:db8::1]:14>[2001:db8::2]:53"), "INVALID"),
    ("p-2", ("icmp6", "2001:db8::2>2001:db8::1 echo-reply"), "INVALID"),
    ("p-1", ("icmp6", "fe80::1>fe80::2 neighbour-solicitation target fe80::2"), "UNTRACKED"),
    ("p-1", ("icmp6", "fe80::1>fe80::2 router-advertisement"), "UNTRACKED"),
    ("p-1", ("icmp6", "fe80::1>fe80::2 listener-report-v2 ext 0"), "UNTRACKED"),
    ("p-1", ("icmp6", "fe80::1>fe80::2 138/0"), "INVALID"),
    // A query for information about a node (RFC 4620), which the userspace tracker calls invalid.
    ("p-1", ("icmp6", "fe80::1>fe80::2 139/0"), "NEW"),
    ("p-1", ("tcp", "[2001:db8::1]:15>[2001:db8::2]:80 S ext 0,60"), "NEW"),
];

/// The states that frames had on p-1's bridge since the counters were set to 0.
fn counted(bed: &Bed) -> Vec<&'static str> {
    let text =
        ["iptables", "ip6tables"].map(|tables| bed.run(&format!("{tables}-save -c -t filter"))).concat();
    let counts = |state: &&str| {
        let of_state = format!("--ctstate {state} ");
        text.lines().any(|line| line.contains(&of_state) && !line.starts_with("[0:0]"))
    };
    STATES.into_iter().filter(counts).collect()
}
