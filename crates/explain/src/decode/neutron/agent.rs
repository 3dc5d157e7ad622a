//! Tables 0 to 62, 77 and 78: what the agent itself writes on the integration bridge.

use rust_openflow::{Action, Field, Flow, PortNo};

use super::{port, sender};
use crate::decode::look::{loads, onwards, outputs};
use crate::decode::names::Names;
use crate::decode::words::{self, packets};

type Said = Option<(&'static str, String)>;

/// The VLAN of ports that are not set up (neutron_lib: `DEAD_VLAN_TAG`).
const DEAD_VLAN: u128 = 4095;

pub(super) fn meaning(flow: &Flow, names: &Names) -> Said {
    match flow.table {
        0 => local_switching(flow, names),
        1 | 2 if flow.priority == 20 => {
            let mac = words::mac(&flow.matches, Field::EthDst)?;
            said("dvr", format!("distributed router: frames to {mac} get the gateway's source MAC"))
        }
        3 | 4 if flow.priority == 5 => {
            let mac = words::mac(&flow.matches, Field::EthDst)?;
            said("dvr", format!("distributed router: ARP replies to this host's MAC {mac} go to the router"))
        }
        23 if is_drop(flow) && flow.matches.is_empty() => {
            said("canary", "canary: once it is gone the agent knows that the switch was restarted".to_owned())
        }
        24 | 25 => spoofing(flow, names),
        30 | 31 => local_ip(flow),
        58 | 59 => limits(flow, names),
        60 => transient(flow, names),
        61 | 62 => egress(flow, names),
        77 | 78 => dhcp(flow, names),
        _ => None,
    }
}

fn said(slot: &'static str, purpose: impl Into<String>) -> Said {
    Some((slot, purpose.into()))
}

fn is_drop(flow: &Flow) -> bool {
    flow.actions.is_empty()
}

fn goes_to(flow: &Flow, table: u8) -> bool {
    onwards(&flow.actions) == [table]
}

fn is_normal(flow: &Flow) -> bool {
    matches!(flow.actions[..], [Action::Output(PortNo::NORMAL)])
}

fn tag_of(flow: &Flow) -> Option<u128> {
    const VID: u128 = 0xfff;
    let (tci, mask) = flow.matches.get(Field::VlanTci)?;
    (mask & VID == VID).then_some(tci & VID)
}

/// The VLAN that a frame is given: `set_field:4107->vlan_vid`, or in OpenFlow 1.0 `mod_vlan_vid:11`.
fn new_tag(flow: &Flow) -> Option<u128> {
    const VID: u128 = 0xfff;
    let old = flow.actions.iter().find_map(|action| match action {
        Action::SetVlanVid(vid) => Some(u128::from(*vid)),
        _ => None,
    });
    loads(&flow.actions, Field::VlanVid).map(|vid| vid & VID).or(old)
}

fn local_switching(flow: &Flow, names: &Names) -> Said {
    let from = sender(flow, names);
    match (flow.priority, from) {
        (65535, None) if is_drop(flow) && tag_of(flow) == Some(DEAD_VLAN) => {
            said("dead_vlan", "frames of the dead VLAN, on which ports are until they are set up: dropped")
        }
        (10, Some(from)) if goes_to(flow, 24) => {
            said("spoofing", format!("{} of {from}: checked for spoofed addresses", packets(&flow.matches)))
        }
        (9, Some(from)) if goes_to(flow, 25) => {
            said("spoofing", format!("frames of {from}: source MAC checked"))
        }
        (5, Some(from)) if goes_to(flow, 3) || goes_to(flow, 4) => {
            said("dvr", format!("distributed router: ARP replies from {from} to this host's MAC"))
        }
        (2 | 4, Some(from)) if goes_to(flow, 1) || goes_to(flow, 2) => {
            said("dvr", format!("distributed router: frames from {from} with another host's MAC"))
        }
        (3, Some(from)) if goes_to(flow, 58) => {
            let vlan = new_tag(flow)?;
            let segment = match tag_of(flow).filter(|_| is_tagged(flow)) {
                Some(segment) => format!("segment {segment}"),
                None => "untagged frames".to_owned(),
            };
            said("local_vlan", format!("from {from}: {segment}, on this bridge VLAN {vlan}"))
        }
        (2, Some(from)) if is_drop(flow) => said(
            "drop_port",
            format!("whatever else comes from {from} (unknown segment, or dead port): dropped"),
        ),
        (0, None) if goes_to(flow, 58) => said("go_on", "all other frames go on"),
        _ => None,
    }
}

fn is_tagged(flow: &Flow) -> bool {
    const PRESENT: u128 = 0x1000;
    flow.matches.get(Field::VlanTci).is_some_and(|(tci, _)| tci & PRESENT != 0)
}

fn spoofing(flow: &Flow, names: &Names) -> Said {
    match (flow.table, flow.priority, sender(flow, names)) {
        (24, 2, Some(from)) if goes_to(flow, 25) || goes_to(flow, 58) => {
            said("own_address", format!("{from} may send {}", packets(&flow.matches)))
        }
        (25, 2, Some(from)) if goes_to(flow, 30) || goes_to(flow, 58) => {
            let mac = words::mac(&flow.matches, Field::EthSrc)?;
            said("own_mac", format!("{from} may send with MAC {mac}"))
        }
        (24 | 25, 0, None) if is_drop(flow) => said("spoofed", "spoofed addresses: dropped"),
        _ => None,
    }
}

fn local_ip(flow: &Flow) -> Said {
    match flow.priority {
        0 if goes_to(flow, 58) => said("go_on", "nothing to translate for local IPs: goes on"),
        _ => said("local_ip", format!("local IP: {}", packets(&flow.matches))),
    }
}

fn limits(flow: &Flow, names: &Names) -> Said {
    let (what, next) = if flow.table == 58 { ("packet rate", 59) } else { ("bandwidth", 60) };
    match flow.priority {
        // Until 25.2 there was no table 59.
        0 if goes_to(flow, next) || goes_to(flow, 60) => {
            said("go_on", format!("no limit of {what}: goes on"))
        }
        100 if onwards(&flow.actions).contains(&next) => {
            let whose = match sender(flow, names) {
                Some(from) => format!("sent by {from}"),
                None => format!("to {}", words::mac(&flow.matches, Field::EthDst)?),
            };
            said("limit", format!("limit of {what} of what is {whose}"))
        }
        _ => None,
    }
}

fn transient(flow: &Flow, names: &Names) -> Said {
    let to_port = loads(&flow.actions, Field::Reg(5)).and_then(|port| u16::try_from(port).ok());
    match (flow.priority, sender(flow, names), to_port) {
        (100, Some(from), Some(_)) if onwards(&flow.actions) == [71] => {
            said("from_port", format!("{from} sends: its egress rules judge"))
        }
        (100, Some(from), Some(_)) if onwards(&flow.actions) == [73] => {
            said("from_trusted", format!("{from} sends: without port security, nothing is judged"))
        }
        (90, None, Some(to)) if onwards(&flow.actions) == [81] => {
            let mac = words::mac(&flow.matches, Field::EthDst)?;
            let tag = match tag_of(flow).filter(|_| is_tagged(flow)) {
                Some(vlan) => format!("VLAN {vlan}"),
                None => "untagged".to_owned(),
            };
            said("to_port", format!("{tag}, to MAC {mac}: to {}, whose ingress rules judge", port(names, to)))
        }
        (101 | 102, None, None) if matches!(onwards(&flow.actions)[..], [77 | 78]) => {
            said("dhcp", format!("{}: answered by the agent where it serves DHCP", packets(&flow.matches)))
        }
        (102, None, None) => said("dns", format!("{}: to the agent's DNS forwarder", packets(&flow.matches))),
        (20, None, None) => {
            said("dvr", format!("distributed router: {} to its port", packets(&flow.matches)))
        }
        (2, None, None) if goes_to(flow, 94) => said("direct", "all other frames: straight to their ports"),
        (1, None, None) if is_normal(flow) => {
            said("normal", "all other frames, of no port with rules: by learnt MACs")
        }
        _ => None,
    }
}

fn egress(flow: &Flow, names: &Names) -> Said {
    if flow.matches.is_empty() && is_normal(flow) {
        return said("normal", "frames without a firewall's rules: by learnt MACs");
    }
    let to = outputs(&flow.actions).first().map(|to| port(names, *to));
    match to {
        Some(to) => said("direct", format!("{} straight to {to}", packets(&flow.matches))),
        None => said("go_on", format!("{} go on", packets(&flow.matches))),
    }
}

fn dhcp(flow: &Flow, names: &Names) -> Said {
    match (flow.priority, sender(flow, names)) {
        (100, Some(from)) => {
            said("request", format!("{} of {from}: to the agent, which answers", packets(&flow.matches)))
        }
        (0, None) if is_drop(flow) => said("other", "DHCP of any other port: dropped"),
        _ => None,
    }
}
