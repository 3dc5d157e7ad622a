//! "Fragments … below the tracker's minimum, 1,200 bytes v4 and 1,280 v6 in userspace, … are `ct-invalid`" (semantics,
//! "Rules and connections"). The evaluator does not count bytes, so this is no page of `flows/cases`. Needs root.

use integration::{BRIDGE, Firewall, PageFirewall as _};
use tests::case::Case;

/// Four datagrams in two parts each, every one of them admitted by a rule. The IP packets of the first parts have 1,196
/// and 1,204 bytes, then 1,272 and 1,280.
const PAGE: &str = r#"# Short parts

```yaml policy
security_groups:
- {id: sg-1, name: sg-1, security_group_rules: [
    {id: r1, direction: ingress, ethertype: IPv4, protocol: udp, port_range_min: 53, port_range_max: 53},
    {id: r2, direction: ingress, ethertype: IPv6, protocol: udp, port_range_min: 53, port_range_max: 53}]}
ports:
- {id: p-1, network_id: net-1, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}, {ip_address: "2001:db8::1"}],
   security_groups: [sg-1]}
```

```packets
uplink: vlan 10 udp 10.0.0.6:1000>10.0.0.1:53 id 1 part 0+1176/2000 => ingress p-1 drop ct-invalid
uplink: vlan 10 udp 10.0.0.6:1000>10.0.0.1:53 id 1 part 1176+824/2000 => ingress p-1 drop ct-invalid
uplink: vlan 10 udp 10.0.0.7:1000>10.0.0.1:53 id 2 part 0+1184/2000 => deliver p-1 by r1
uplink: vlan 10 udp 10.0.0.7:1000>10.0.0.1:53 id 2 part 1184+816/2000 => deliver p-1 by r1
uplink: vlan 10 udp [2001:db8::6]:1000>[2001:db8::1]:53 id 3 part 0+1224/2000 => ingress p-1 drop ct-invalid
uplink: vlan 10 udp [2001:db8::6]:1000>[2001:db8::1]:53 id 3 part 1224+776/2000 => ingress p-1 drop ct-invalid
uplink: vlan 10 udp [2001:db8::7]:1000>[2001:db8::1]:53 id 4 part 0+1232/2000 => deliver p-1 by r2
uplink: vlan 10 udp [2001:db8::7]:1000>[2001:db8::1]:53 id 4 part 1232+768/2000 => deliver p-1 by r2
```
"#;

/// The flow that counts what is dropped as `ct-invalid` (flows/pipeline.toml).
const CT_INVALID: &str = "table=128,reg10=9";

fn called_invalid(firewall: &Firewall) -> u64 {
    let dump = firewall.ovs().ofctl(&["-O", "OpenFlow14", "dump-flows", BRIDGE, CT_INVALID]).expect("a dump");
    let counts =
        dump.split("n_packets=").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok());
    counts.sum()
}

#[test]
fn a_part_below_the_trackers_minimum_is_invalid() {
    let case = Case::parse(PAGE).expect("a page");
    let step = &case.steps[0];
    let mut firewall = Firewall::start(&step.bindings, &step.config).expect("a switch");
    firewall.put_in_force(&step.policy).expect("in force");
    for parts in step.packets.chunks(2) {
        let before = called_invalid(&firewall);
        for part in parts {
            firewall.receive(&part.from, &part.bytes).expect("sent");
        }
        let seen = firewall.sighting().expect("a look").values().map(Vec::len).sum::<usize>();
        firewall.ovs().wait_for_caches().expect("counters are up to date");
        let invalid = called_invalid(&firewall) - before;
        let is_short = parts[0].expected.delivered.is_empty();
        assert_eq!(seen, if is_short { 0 } else { 2 }, "{}", parts[0].text);
        assert_eq!(invalid > 0, is_short, "{}", parts[0].text);
    }
}
