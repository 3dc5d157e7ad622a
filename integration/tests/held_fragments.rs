//! "Any other invalid frame: dropped, `ct-invalid`" (semantics, "Rules and connections"): a part of a datagram that conntrack keeps, because the rest never comes, must not come out later with a
//! packet of somebody else. Open vSwitch 3.1 gives up such a part after 15 seconds and adds it, as invalid, to the packets
//! of whichever `ct()` comes next, one datagram at a time (`lib/ipf.c`: `ipf_send_expired_frags`). Needs root.

use integration::{Firewall, PageFirewall as _};
use tests::case::Case;

/// p-1 on the one network sends parts without a beginning; p-3 sends to p-4 on the other.
const PAGE: &str = r#"# Parts that are kept

```yaml policy
security_groups:
- {id: sg-1, name: sg-1, security_group_rules: [
    {id: out, direction: egress, ethertype: IPv4}, {id: in, direction: ingress, ethertype: IPv4, protocol: udp}]}
ports:
- {id: p-1, network_id: net-1, mac_address: "fa:16:3e:00:00:01", fixed_ips: [{ip_address: 10.0.0.1}], security_groups: [sg-1]}
- {id: p-3, network_id: net-2, mac_address: "fa:16:3e:00:00:03", fixed_ips: [{ip_address: 10.0.0.3}], security_groups: [sg-1]}
- {id: p-4, network_id: net-2, mac_address: "fa:16:3e:00:00:04", fixed_ips: [{ip_address: 10.0.0.4}], security_groups: [sg-1]}
```

```packets
p-1: udp 10.0.0.1:1000>10.0.0.9:53 id 1 part 1400+600/2000 => egress drop ct-invalid
p-1: udp 10.0.0.1:1000>10.0.0.9:53 id 2 part 1400+600/2000 => egress drop ct-invalid
p-1: udp 10.0.0.1:1000>10.0.0.9:53 id 3 part 1400+600/2000 => egress drop ct-invalid
p-1: udp 10.0.0.1:1000>10.0.0.9:53 id 4 part 1400+600/2000 => egress drop ct-invalid
p-1: udp 10.0.0.1:1000>10.0.0.9:53 id 5 part 1400+600/2000 => egress drop ct-invalid
p-3: udp 10.0.0.3:1000>10.0.0.4:53 => deliver p-4 by in
```
"#;

/// The same where p-4 and p-5, which is trusted, answer to one MAC.
const SHARED: [(&str, &str); 2] = [
    (
        "fixed_ips: [{ip_address: 10.0.0.4}], security_groups: [sg-1]}\n",
        "fixed_ips: [{ip_address: 10.0.0.4}], security_groups: [sg-1]}\n\
     - {id: p-5, network_id: net-2, mac_address: \"fa:16:3e:00:00:04\", fixed_ips: [{ip_address: 10.0.0.5}], security_groups: [], port_security_enabled: false}\n",
    ),
    ("deliver p-4 by in", "deliver p-4 by in, p-5"),
];

#[test]
fn parts_that_are_given_up_reach_nobody() {
    reach_nobody(PAGE, &["p-4"]);
}

/// What stands behind the first receiver's `ct()` in a list of actions would befall them too.
#[test]
fn parts_that_are_given_up_do_not_reach_the_second_port_of_a_mac() {
    let shared = SHARED.iter().fold(PAGE.to_owned(), |page, (one, other)| page.replace(one, other));
    reach_nobody(&shared, &["p-4", "p-5"]);
}

fn reach_nobody(page: &str, receivers: &[&str]) {
    let case = Case::parse(page).expect("a page");
    let step = &case.steps[0];
    let mut firewall = Firewall::start(&step.bindings, &step.config).expect("a switch");
    firewall.put_in_force(&step.policy).expect("in force");
    let (other, parts) = step.packets.split_last().expect("frames");
    for part in parts {
        firewall.receive(&part.from, &part.bytes).expect("sent");
    }
    assert!(firewall.sighting().expect("a look").is_empty(), "parts are kept");
    // The switch's clock stands still between these (ovs-vswitchd, `--enable-dummy`).
    firewall.ovs().appctl("time/warp", &["20000"]).expect("the clock goes on");
    firewall.receive(&other.from, &other.bytes).expect("sent");
    let seen = firewall.sighting().expect("a look");
    assert_eq!(seen.keys().collect::<Vec<_>>(), receivers);
    assert!(
        seen.values().all(|frames| *frames == [other.bytes.clone()]),
        "nothing but what was sent to them: {seen:02x?}"
    );
}
