//! "Rules and connections", on a host in small.

use super::*;

/// Stations 1 (client), 2 (server) and 3 (bystander) on VLAN 5, a trusted router 4; 6 on VLAN 6. `rules` are those
/// of the server's group; the client may send anything and be sent nothing.
fn text(stateful: bool, rules: &str) -> String {
    let groups = format!(
        "security_groups:\n\
         - {{id: client, security_group_rules: [\
             {{id: c4, direction: egress, ethertype: IPv4}}, {{id: c6, direction: egress, ethertype: IPv6}}]}}\n\
         - {{id: server, stateful: {stateful}, security_group_rules: [{rules}]}}\n"
    );
    let client = ", security_groups: [client]";
    let ports = ports(&[
        ("client", 1, client),
        ("server", 2, ", security_groups: [server]"),
        ("third", 3, client),
        ("router", 4, ", device_owner: 'network:router'"),
        ("far", 6, client),
    ]);
    groups + &ports
}

fn model(stateful: bool, rules: &str) -> Model {
    model_on(Datapath::default(), stateful, rules)
}

fn model_on(datapath: Datapath, stateful: bool, rules: &str) -> Model {
    let bindings = [("client", 5), ("server", 5), ("third", 5), ("router", 5), ("unknown", 5), ("far", 6)];
    let host = Host { bindings: bindings.into_iter().map(|(id, vlan)| (id.into(), vlan)).collect() };
    Model::new(&policy(&text(stateful, rules)), Settings { datapath, ..Settings::default() }, host)
}

const WEB: &str =
    "{id: w, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80}";
const PING: &str = "{id: p, direction: ingress, ethertype: IPv4, protocol: icmp, port_range_min: 8}";
const C: &str = "10.0.0.1";
const S: &str = "10.0.0.2";

/// Sends a frame from one station to another and gives the verdicts at both; the receiver's is empty if the sender's
/// port dropped it.
fn send(model: &mut Model, from: u8, to: u8, payload: Payload) -> String {
    let name = |n| ["", "client", "server", "third", "router"][usize::from(n)];
    let outcome = model.send(&name(from).into(), &frame(from, to, payload));
    let at = outcome.delivered.iter().find(|(id, _)| id.as_str() == name(to));
    format!("{} {}", word(&outcome.egress), at.map_or_else(String::new, |(_, judgement)| word(judgement)))
}

fn request(flags: u8) -> Payload {
    tcp((C, 999), (S, 80), flags)
}

fn response(flags: u8) -> Payload {
    tcp((S, 80), (C, 999), flags)
}

#[test]
fn replies_of_an_accepted_connection_pass_and_nothing_else() {
    let mut model = model(true, WEB);
    assert_eq!(send(&mut model, 2, 1, response(SYN | ACK)), "-ct-invalid ");
    assert_eq!(send(&mut model, 1, 2, request(SYN)), "rule rule");
    assert_eq!(send(&mut model, 2, 1, response(SYN | ACK)), "rule rule");
    assert_eq!(send(&mut model, 1, 2, request(ACK)), "rule rule");
    assert_eq!(send(&mut model, 2, 1, tcp((S, 80), (C, 998), ACK)), "-no-rule ");
    assert_eq!(send(&mut model, 2, 1, tcp((S, 81), (C, 999), SYN)), "-no-rule ");
    assert_eq!(send(&mut model, 1, 2, tcp((C, 999), (S, 81), SYN)), "rule -no-rule");
    // The client's zone holds that connection now, but the server's does not.
    assert_eq!(send(&mut model, 2, 1, tcp((S, 81), (C, 999), SYN | ACK)), "-ct-invalid ");
    assert_eq!(send(&mut model, 1, 2, request(0)), "-ct-invalid ");
    assert_eq!(send(&mut model, 1, 2, tcp((C, 0), (S, 80), SYN)), "-ct-invalid ");
}

#[test]
fn an_error_passes_with_its_connection() {
    let mut model = model(true, &format!("{WEB}, {PING}"));
    let unreachable = || error("10.0.0.4", C, 3, request(SYN));
    // Of no connection, a router's error is judged as a message, which the client's rules do not admit.
    assert_eq!(send(&mut model, 4, 1, unreachable()), "trusted -no-rule");
    assert_eq!(send(&mut model, 1, 2, request(SYN)), "rule rule");
    assert_eq!(send(&mut model, 4, 1, unreachable()), "trusted rule");
    assert_eq!(send(&mut model, 2, 1, error(S, C, 3, request(SYN))), "rule rule");
    assert_eq!(send(&mut model, 1, 2, error(C, S, 3, response(ACK))), "rule rule");
    // An error that is sent to another than the quoted packet's sender is about nothing.
    assert_eq!(send(&mut model, 4, 1, error("10.0.0.4", C, 3, response(ACK))), "trusted -no-rule");
    model.set_policy(&policy(&text(true, PING)));
    assert_eq!(send(&mut model, 2, 1, error(S, C, 3, request(SYN))), "-revoked ");
}

#[test]
fn revocation_cuts_both_directions_and_a_later_policy_revives() {
    let mut model = model(true, WEB);
    assert_eq!(send(&mut model, 1, 2, request(SYN)), "rule rule");
    // Another rule that admits it keeps it.
    let other = "{id: o, direction: ingress, ethertype: IPv4, remote_ip_prefix: 10.0.0.0/24}";
    model.set_policy(&policy(&text(true, other)));
    assert_eq!(send(&mut model, 2, 1, response(ACK)), "rule rule");
    model.set_policy(&policy(&text(true, PING)));
    assert_eq!(send(&mut model, 2, 1, response(ACK)), "-revoked ");
    assert_eq!(send(&mut model, 1, 2, request(ACK)), "rule -revoked");
    // An egress rule does not admit a connection that came in: it keeps the direction of its first packet.
    model.set_policy(&policy(&text(true, "{id: e, direction: egress, ethertype: IPv4}")));
    assert_eq!(send(&mut model, 2, 1, response(ACK)), "-revoked ");
    model.set_policy(&policy(&text(true, WEB)));
    assert_eq!(send(&mut model, 2, 1, response(ACK)), "rule rule");
}

#[test]
fn a_removed_member_revokes() {
    let by_group = "{id: g, direction: ingress, ethertype: IPv4, remote_group_id: client}";
    let mut model = model(true, by_group);
    assert_eq!(send(&mut model, 1, 2, request(SYN)), "rule rule");
    let without = text(true, by_group).replace("10.0.0.1}", "10.0.0.11}");
    assert_ne!(without, text(true, by_group));
    model.set_policy(&policy(&without));
    assert_eq!(send(&mut model, 2, 1, response(ACK)), "-revoked ");
    // The third station's connections have lost nothing.
    let third = |flags| tcp(("10.0.0.3", 5), (S, 80), flags);
    assert_eq!(send(&mut model, 3, 2, third(SYN)), "rule rule");
}

#[test]
fn a_short_prefix_counts_in_both_directions_by_the_frames_remote_mac() {
    let by_group = "{id: g, direction: ingress, ethertype: IPv4, remote_group_id: wide}";
    let wide = "security_groups: [wide], allowed_address_pairs: [{ip_address: 0.0.0.0/0}]}\n";
    let text = text(true, by_group).replace("- {id: server, stateful", "- id: wide\n- {id: server, stateful")
        + "- {id: w, network_id: n, mac_address: 'fa:16:3e:00:00:04', "
        + wide;
    let mut model = model(true, by_group);
    model.set_policy(&policy(&text));
    let syn = tcp(("192.0.2.1", 1), (S, 80), SYN);
    let from = |mac| frame(mac, 2, syn);
    let at_server = |model: &mut Model, frame: &Frame| word(&model.receive(5, frame)[0].1);
    assert_eq!(at_server(&mut model, &from(9)), "-no-rule");
    assert_eq!(at_server(&mut model, &from(4)), "rule");
    let reply = tcp((S, 80), ("192.0.2.1", 1), ACK);
    assert_eq!(word(&model.send(&"server".into(), &frame(2, 4, reply)).egress), "rule");
    assert_eq!(word(&model.send(&"server".into(), &frame(2, 9, reply)).egress), "-revoked");
}

#[test]
fn stateless_rules_track_nothing() {
    let mut model = model(false, WEB);
    assert_eq!(send(&mut model, 1, 2, request(SYN)), "rule rule");
    assert_eq!(send(&mut model, 2, 1, response(SYN | ACK)), "-ct-invalid ");
    let back = "{id: b, direction: egress, ethertype: IPv4, protocol: tcp}";
    model.set_policy(&policy(&text(false, &format!("{WEB}, {back}"))));
    assert_eq!(send(&mut model, 2, 1, response(SYN | ACK)), "rule rule");
    // Stateless rules take what conntrack would call invalid.
    assert_eq!(send(&mut model, 2, 1, tcp((S, 0), (C, 0), SYN | ACK)), "rule -ct-invalid");
}

#[test]
fn stateless_rules_are_tried_first() {
    let both = text(true, WEB).replace("[server]", "[server, quick]").replace(
        "- {id: server, stateful",
        "- {id: quick, stateful: false, security_group_rules: [{id: q, direction: ingress, ethertype: IPv4, \
         protocol: tcp}]}\n- {id: server, stateful",
    );
    let mut model = model(true, WEB);
    model.set_policy(&policy(&both));
    let outcome = model.send(&"client".into(), &frame(1, 2, request(SYN)));
    let (_, at_server) = &outcome.delivered[0];
    assert_eq!(at_server.rules, [("quick".into(), "q".into())]);
    assert!(!at_server.tracked);
    // So the server's answer belongs to no connection of its zone.
    assert_eq!(send(&mut model, 2, 1, response(SYN | ACK)), "-ct-invalid ");
}

#[test]
fn icmp_queries_are_tracked_and_messages_judged_one_by_one() {
    let mut model = model(true, PING);
    assert_eq!(send(&mut model, 2, 1, icmp(S, C, 0, 0)), "-ct-invalid ");
    assert_eq!(send(&mut model, 1, 2, icmp(C, S, 8, 0)), "rule rule");
    assert_eq!(send(&mut model, 2, 1, icmp(S, C, 0, 0)), "rule rule");
    assert_eq!(send(&mut model, 2, 1, icmp(S, C, 14, 0)), "-no-rule ");
    // A query with a code is invalid, so it is judged by itself and makes no connection.
    assert_eq!(send(&mut model, 3, 2, icmp("10.0.0.3", S, 8, 1)), "rule rule");
    assert_eq!(send(&mut model, 2, 3, icmp(S, "10.0.0.3", 0, 0)), "-ct-invalid ");
    assert_eq!(send(&mut model, 1, 2, icmp(C, S, 5, 0)), "rule -no-rule");
    model.set_policy(&policy(&text(true, "{id: all, direction: ingress, ethertype: IPv4, protocol: icmp}")));
    assert_eq!(send(&mut model, 1, 2, icmp(C, S, 5, 0)), "rule rule");
    assert_eq!(send(&mut model, 1, 2, icmp(C, S, 0, 0)), "-ct-invalid ");
}

#[test]
fn fragments_go_with_their_datagram() {
    let rule = "{id: u, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53}, \
                {id: v, direction: ingress, ethertype: IPv6, protocol: udp, port_range_min: 53, port_range_max: 53}";
    let part = |part, port| fragment(part, udp((C, 9), (S, port)));
    for stateful in [true, false] {
        let mut model = model(stateful, rule);
        assert_eq!(send(&mut model, 1, 2, part(Fragment::Later, 53)), "-ct-invalid ");
        assert_eq!(send(&mut model, 1, 2, part(Fragment::First, 53)), "rule rule");
        let later = if stateful { "rule rule" } else { "rule -ct-invalid" };
        assert_eq!(send(&mut model, 1, 2, part(Fragment::Later, 53)), later);
        assert_eq!(send(&mut model, 1, 2, part(Fragment::First, 54)), "rule -no-rule");
        assert_eq!(send(&mut model, 1, 2, part(Fragment::Later, 54)), "rule -no-rule");
        let six = |part| fragment(part, udp(("fd00::1", 9), ("fd00::2", 53)));
        assert_eq!(send(&mut model, 1, 2, six(Fragment::First)), "rule rule");
        assert_eq!(send(&mut model, 1, 2, six(Fragment::Later)), later);
    }
}

#[test]
fn a_fragment_that_cannot_be_reassembled_is_no_message() {
    let evaluator = Evaluator::new(&policy(&text(true, PING)), Settings::default());
    let verdict = |payload| {
        let judgement =
            evaluator.judge(&"server".into(), Direction::Ingress, &frame(1, 2, payload), &Tracking::Invalid);
        word(&judgement)
    };
    assert_eq!(verdict(icmp(C, S, 8, 1)), "rule");
    assert_eq!(verdict(fragment(Fragment::First, icmp(C, S, 8, 0))), "-ct-invalid");
    assert_eq!(verdict(fragment(Fragment::Later, icmp(C, S, 8, 0))), "-ct-invalid");
}

#[test]
fn a_stateless_rule_without_ports_takes_later_fragments_of_ipv4() {
    let rules = "{id: u, direction: ingress, ethertype: IPv4, protocol: udp}, \
                 {id: v, direction: ingress, ethertype: IPv6, protocol: udp}";
    let mut model = model(false, rules);
    let later = |src, dst| fragment(Fragment::Later, udp((src, 9), (dst, 53)));
    let at_server = |model: &mut Model, payload| word(&model.receive(5, &frame(1, 2, payload))[0].1);
    assert_eq!(at_server(&mut model, later(C, S)), "rule");
    // What a later IPv6 fragment holds cannot be seen.
    assert_eq!(at_server(&mut model, later("fd00::1", "fd00::2")), "-ct-invalid");
}

#[test]
fn sctp_is_judged_by_the_packets_own_port_where_it_is_tracked_without() {
    let rule =
        "{id: s, direction: ingress, ethertype: IPv4, protocol: sctp, port_range_min: 7, port_range_max: 7}";
    let to = |port| ported(132, (C, 9), (S, port));
    let back = |port| ported(132, (S, port), (C, 9));
    for tracks_sctp_ports in [false, true] {
        let mut model = model_on(Datapath { tracks_sctp_ports }, true, rule);
        assert_eq!(send(&mut model, 1, 2, to(8)), "rule -no-rule");
        assert_eq!(send(&mut model, 1, 2, to(7)), "rule rule");
        assert_eq!(send(&mut model, 2, 1, back(7)), "rule rule");
        assert_eq!(send(&mut model, 2, 1, back(8)), "-no-rule ");
        assert_eq!(send(&mut model, 1, 2, to(8)), "rule -no-rule");
        assert_eq!(send(&mut model, 2, 1, error(S, C, 3, to(7))), "rule rule");
    }
}

/// Without ports two stations have one connection, whose replies come from any port that a rule admits.
#[test]
fn what_is_tracked_without_ports_is_one_connection() {
    for (name, number) in [("sctp", 132), ("dccp", 33), ("udplite", 136)] {
        let rule = format!("{{id: r, direction: ingress, ethertype: IPv4, protocol: {name}}}");
        for (tracks_sctp_ports, from_another_port) in [(false, "rule rule"), (true, "-no-rule ")] {
            let mut model = model_on(Datapath { tracks_sctp_ports }, true, &rule);
            assert_eq!(send(&mut model, 1, 2, ported(number, (C, 9), (S, 7))), "rule rule");
            assert_eq!(send(&mut model, 2, 1, ported(number, (S, 8), (C, 9))), from_another_port, "{name}");
        }
    }
}

#[test]
fn group_addressed_frames_are_judged_one_by_one_at_each_port() {
    let mdns = "{id: m, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 5353, port_range_max: 5353}";
    let mut model = model(true, mdns);
    let to_all = |payload| Frame { eth_dst: MacAddr([1, 0, 0x5e, 0, 0, 0xfb]), ..frame(1, 0, payload) };
    let outcome = model.send(&"client".into(), &to_all(udp((C, 5353), ("224.0.0.251", 5353))));
    let seen: Vec<_> = outcome.delivered.iter().map(|(id, at)| format!("{id} {}", word(at))).collect();
    assert_eq!(seen, ["router trusted", "server rule", "third -no-rule", "unknown -no-policy"]);
    assert!(outcome.to_network && outcome.egress.accepted() && !outcome.egress.tracked);
    assert!(outcome.delivered.iter().all(|(_, at)| !at.tracked));
    assert!(outcome.reaches(&"server".into()) && !outcome.reaches(&"third".into()));
    // Nothing was tracked, so that an answer needs a rule of its own.
    assert_eq!(send(&mut model, 2, 1, udp((S, 5353), (C, 5353))), "-no-rule ");
}

#[test]
fn frames_are_delivered_within_their_network() {
    let mut model = model(true, WEB);
    let mut receivers = |to: u8| {
        let outcome = model.send(&"client".into(), &frame(1, to, request(SYN)));
        let ids: Vec<_> = outcome.delivered.iter().map(|(id, _)| id.to_string()).collect();
        (ids.join(" "), outcome.to_network)
    };
    assert_eq!(receivers(2), ("server".to_owned(), false));
    assert_eq!(receivers(4), ("router".to_owned(), false));
    // The port on the other network owns the MAC, and is not reached.
    assert_eq!(receivers(6), ("router".to_owned(), true));
    // A bridge sends nothing back where it came from, and nobody else owns the sender's MAC.
    assert_eq!(receivers(1), (String::new(), false));
    let unbound = model.send(&"nobody".into(), &frame(1, 2, request(SYN)));
    assert_eq!((word(&unbound.egress), unbound.delivered), ("-no-policy".to_owned(), vec![]));
}
