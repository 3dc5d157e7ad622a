//! Every page of `flows/cases` on a real Open vSwitch: each frame goes in at a port of the switch, and what comes out at
//! the others is compared, byte by byte, with what the page says. Needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use integration::{
    BRIDGE, Firewall, FirewallError, PageFirewall as _, Sighting, as_delivered, datagrams,
    flows_rewritten_otherwise, shown,
};
use rust_openflow::Flow;
use tests::case::{Case, PacketLine, Step};
use tests::flows;

fn real_switch(_: &Path, page: String) -> datatest_stable::Result<()> {
    let case = Case::parse(&page)?;
    let first = &case.steps[0];
    let mut firewall = Firewall::start(&first.bindings, &first.config)?;
    let mut differences = Vec::new();
    for step in &case.steps {
        if (&step.bindings, &step.config) != (&first.bindings, &first.config) {
            return Err(
                "the bindings or the configuration change on the way, which is not provided for".into()
            );
        }
        firewall.put_in_force(&step.policy)?;
        let held = flows_held(&firewall)?;
        differences.extend(read_back_otherwise(&held));
        differences.extend(flows_rewritten_otherwise(firewall.ovs())?);
        if std::ptr::eq(step, first) {
            differences.extend(rendered_otherwise(&held, step)?);
        }
        for datagram in datagrams(step) {
            differences.extend(traced_otherwise(&firewall, datagram)?);
            differences.extend(seen_otherwise(&firewall, datagram)?);
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n").into()) }
}

/// Sends the frames of a datagram and compares who receives what.
fn seen_otherwise(firewall: &Firewall, datagram: &[PacketLine]) -> datatest_stable::Result<Option<String>> {
    let mut expected: Sighting = BTreeMap::new();
    for packet in datagram {
        firewall.receive(&packet.from, &packet.bytes)?;
        for name in packet.expected.delivered.keys() {
            expected.entry(name.clone()).or_default().push(as_delivered(
                firewall.binding(&packet.from)?,
                firewall.binding(name)?,
                &packet.sketch,
            )?);
        }
    }
    let mut seen = firewall.sighting()?;
    // Parts come out in any order.
    expected.values_mut().chain(seen.values_mut()).for_each(|frames| frames.sort());
    Ok((seen != expected).then(|| {
        let lines: Vec<String> =
            datagram.iter().map(|packet| format!("line {}: {}", packet.line, packet.text)).collect();
        format!("{}\n    expected: {}\n    seen:     {}", lines.join("\n"), shown(&expected), shown(&seen))
    }))
}

/// Where a frame's fate does not depend on connections, `ofproto/trace` must know it too.
fn traced_otherwise(firewall: &Firewall, datagram: &[PacketLine]) -> Result<Option<String>, FirewallError> {
    let [packet] = datagram else { return Ok(None) };
    let in_port = format!("in_port={}", firewall.binding(&packet.from)?.ofport);
    let trace = firewall.ovs().trace(BRIDGE, &in_port, Some(&packet.bytes))?;
    let is_tracked = trace.text().contains("recirc(");
    let is_wrong = !is_tracked && trace.is_dropped() != packet.expected.delivered.is_empty();
    Ok(is_wrong.then(|| format!("line {}: {}\n    trace:\n{}", packet.line, packet.text, trace.text())))
}

/// The flows in the switch, as ovs-ofctl prints them.
fn flows_held(firewall: &Firewall) -> Result<BTreeSet<String>, FirewallError> {
    let dump =
        firewall.ovs().ofctl(&["-O", "OpenFlow14", "--no-names", "--no-stats", "dump-flows", BRIDGE])?;
    Ok(dump.lines().map(str::trim).filter(|line| line.contains("actions=")).map(str::to_owned).collect())
}

/// Every flow must read and print back as ovs-ofctl prints it.
fn read_back_otherwise(held: &BTreeSet<String>) -> Vec<String> {
    let wrong =
        held.iter().filter(|line| line.parse::<Flow>().map(|flow| flow.to_string()).as_ref() != Ok(*line));
    wrong.map(|line| format!("a flow that reads back otherwise: {line}")).collect()
}

/// A bridge that was empty holds what `sgflow render` prints, numbers included.
fn rendered_otherwise(held: &BTreeSet<String>, step: &Step) -> Result<Vec<String>, String> {
    let rendered: BTreeSet<String> = flows::of_step(step)?.iter().map(Flow::to_string).collect();
    let missing = rendered.difference(held).map(|flow| format!("rendered, but not in the switch: {flow}"));
    let more = held.difference(&rendered).map(|flow| format!("in the switch, but not rendered: {flow}"));
    Ok(missing.chain(more).collect())
}

datatest_stable::harness! {
    { test = real_switch, root = "../flows/cases", pattern = r"\.md$" },
}
