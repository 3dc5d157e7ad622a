//! Every page of `flows/cases` on a host of the hybrid bridge. Needs root.
//!
//! So far with a driver that filters nothing. Of that the page's frames say that the host is right, since each comes to everybody it may
//! concern as it was sent, and that the judge is, who must find exactly the frames that something was to be done about.

use std::path::Path;

use integration::{
    FirewallError, HybridFirewall, Open, PageError, PageFirewall as _, Sighting, Switch, datagrams,
    differences_on_hybrid, expected_on_hybrid, joined_parts, shown,
};
use policy::{Policy, PortId};
use tests::case::{Binding, Case, PacketLine, Step};

/// Destinations that a bridge keeps to itself, or takes as its own (IEEE 802.1Q, table 8-1; `br_handle_frame`,
/// net/bridge/br_input.c), but for the last four bits.
const KEPT_BY_BRIDGES: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];

fn open(path: &Path, page: String) -> datatest_stable::Result<()> {
    let case = Case::parse(&page)?;
    let first = &case.steps[0];
    let mut firewall = match HybridFirewall::<Open>::start(&first.bindings, &first.config) {
        Err(FirewallError::Trunk(name)) => {
            eprintln!("{}: skipped, {name} is a trunk", path.display());
            return Ok(());
        }
        other => other?,
    };
    let mut wrong = Vec::new();
    for switch in [Switch::Floods, Switch::Knows] {
        firewall = firewall.with_switch(switch);
        for step in &case.steps {
            if (&step.bindings, &step.config) != (&first.bindings, &first.config) {
                return Err(
                    "the bindings or the configuration change on the way, which is not provided for".into()
                );
            }
            firewall.put_in_force(&step.policy)?;
            wrong.extend(everybody_gets_everything(&firewall, step)?);
            wrong.extend(misjudged(&firewall, step)?);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// What does not come to everybody of its VLAN as it was sent.
fn everybody_gets_everything(firewall: &HybridFirewall<Open>, step: &Step) -> Result<Vec<String>, PageError> {
    let mut wrong = Vec::new();
    for packet in &step.packets {
        firewall.receive(&packet.from, &packet.bytes)?;
        let (seen, everything) = (firewall.sighting()?, everything(firewall, &step.policy, packet)?);
        if seen != everything {
            let (seen, everything) = (shown(&seen), shown(&everything));
            wrong.push(format!(
                "line {}: {}\n    sent: {everything}\n    seen: {seen}",
                packet.line, packet.text
            ));
        }
    }
    Ok(wrong)
}

/// The judge must find a difference exactly where the page wants anything but everything.
fn misjudged(firewall: &HybridFirewall<Open>, step: &Step) -> Result<Vec<String>, PageError> {
    let found = differences_on_hybrid(firewall, step)?;
    let mut wrong = Vec::new();
    for datagram in datagrams(step) {
        let (mut wanted, mut all) = (Sighting::new(), Sighting::new());
        for packet in datagram {
            add(
                &mut wanted,
                expected_on_hybrid(firewall.switch(), firewall.bindings(), &step.policy, packet)?,
            );
            add(&mut all, everything(firewall, &step.policy, packet)?);
        }
        wanted.values_mut().chain(all.values_mut()).for_each(|frames| *frames = joined_parts(frames));
        let is_found = found.iter().any(|difference| difference.lines[0].0 == datagram[0].line);
        if is_found != (wanted != all) {
            wrong.push(format!(
                "line {}: {}: difference found: {is_found}",
                datagram[0].line, datagram[0].text
            ));
        }
    }
    Ok(wrong)
}

fn add(to: &mut Sighting, more: Sighting) {
    more.into_iter().for_each(|(name, frames)| to.entry(name).or_default().extend(frames));
}

/// What the switch makes of a frame without a filter: it is at all ports of its VLAN, and, if it is not from there, in the network; or
/// at those alone that have its destination, if the switch knows.
fn everything(
    firewall: &HybridFirewall<Open>,
    policy: &Policy,
    packet: &PacketLine,
) -> Result<Sighting, PageError> {
    let from = firewall.binding(&packet.from)?;
    let mut sketch = packet.sketch.clone();
    let vlan = match from.tag {
        Some(vlan) => vlan,
        None => sketch.tags.remove(0).vid,
    };
    let frame = sketch.bytes()?;
    if frame[..5] == KEPT_BY_BRIDGES[..5] && frame[5] & 0xf0 == 0 {
        return Ok(Sighting::new());
    }
    let in_trunk = [&frame[..12], &[0x81, 0x00], &vlan.to_be_bytes(), &frame[12..]].concat();
    let has_destination = |to: &Binding| {
        let port = to.port_id.as_deref().and_then(|id| policy.ports.get(&PortId::from(id)));
        port.is_some_and(|port| {
            let of_pairs = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac);
            to.tag == Some(vlan) && of_pairs.chain([port.mac]).any(|mac| mac == sketch.eth_dst)
        })
    };
    let is_known = firewall.switch() == Switch::Knows && firewall.bindings().iter().any(has_destination);
    let gets = |to: &&Binding| {
        let is_on_vlan = to.tag.is_none_or(|tag| tag == vlan);
        let may = to.name() != from.name() && is_on_vlan && (!from.uplink || !to.uplink);
        may && (!is_known || has_destination(to))
    };
    let as_got = |to: &Binding| if to.tag.is_some() { frame.clone() } else { in_trunk.clone() };
    let got = firewall.bindings().iter().filter(gets).map(|to| (to.name().to_owned(), vec![as_got(to)]));
    Ok(got.collect())
}

datatest_stable::harness! {
    { test = open, root = "../flows/cases", pattern = r"\.md$" },
}
