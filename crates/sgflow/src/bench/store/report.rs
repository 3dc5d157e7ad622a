//! The figures of the policy store as tables for people.

use std::fmt::Write as _;

use super::fleets::{Change, Spectrum, Start, per};
use super::servers::Cpu;
use super::{Figures, Size};

/// All tables, and what the figures mean for more hosts.
pub(super) fn text(figures: &Figures) -> String {
    let Size { agents, ports, groups, members } = figures.size;
    let mut text = format!(
        "{agents} agents, {} relays, a cluster of three; {ports} ports, {groups} groups, one of {members} members\n\n",
        figures.relays
    );
    fill(figures, &mut text);
    starts(figures, &mut text);
    changes(figures, &mut text);
    troubles(figures, &mut text);
    meaning(figures, &mut text);
    text
}

fn fill(figures: &Figures, text: &mut String) {
    let fill = &figures.fill;
    let heads = [
        "to fill it: s",
        "transactions",
        "cluster CPU s",
        "of that the leader",
        "relays",
        "leader MB",
        "another MB",
        "relay MB",
    ];
    let cells = [
        number(fill.seconds),
        fill.transactions.to_string(),
        number(fill.cpu.cluster),
        number(fill.leader_cpu),
        number(fill.cpu.relays),
        megabytes(fill.memory.leader),
        megabytes(fill.memory.follower),
        megabytes(fill.memory.relay),
    ];
    table(text, &heads, &[cells.into()]);
}

fn starts(figures: &Figures, text: &mut String) {
    let heads = [
        "agents begin at once",
        "last has its policy s",
        "and has said so s",
        "kB a host p50",
        "max",
        "cluster CPU s",
        "relays",
        "CPU ms a host",
        "a host MB",
        "leader MB",
        "relay MB",
    ];
    let rows = figures.starts.iter().map(|start| {
        let Start { agents, seconds, answered, received, cpu, memory } = start;
        vec![
            agents.to_string(),
            number(*seconds),
            number(*answered),
            number(received.p50 / 1e3),
            number(received.max / 1e3),
            number(cpu.cluster),
            number(cpu.relays),
            milliseconds(cpu.agents / per(*agents)),
            number(per(usize::try_from(memory.agents).unwrap_or(0)) / 1e6 / per(*agents)),
            megabytes(memory.leader),
            megabytes(memory.relay),
        ]
    });
    table(text, &heads, &rows.collect::<Vec<_>>());
}

fn changes(figures: &Figures, text: &mut String) {
    let heads = [
        "change",
        "agents",
        "interested",
        "members",
        "ms p50",
        "p99",
        "max",
        "from sending p50",
        "p99",
        "bytes p50",
        "max",
        "others max",
        "(in silence)",
        "cluster CPU ms",
        "relays",
        "agents",
    ];
    let rows = figures.changes.iter().map(|change| {
        let Change { what, agents, members, interested, latency, from_sent, received, cpu, .. } = change;
        vec![
            (*what).to_owned(),
            agents.to_string(),
            interested.to_string(),
            members.to_string(),
            milliseconds(latency.p50),
            milliseconds(latency.p99),
            milliseconds(latency.max),
            milliseconds(from_sent.p50),
            milliseconds(from_sent.p99),
            format!("{:.0}", received.p50),
            format!("{:.0}", received.max),
            format!("{:.0}", change.received_by_others.max),
            format!("{:.0}", change.received_of_nothing.max),
            milliseconds(cpu.cluster),
            milliseconds(cpu.relays),
            milliseconds(cpu.agents),
        ]
    });
    table(text, &heads, &rows.collect::<Vec<_>>());
}

fn troubles(figures: &Figures, text: &mut String) {
    let heads = [
        "then a member joins",
        "committed s",
        "half have it s",
        "99 of 100",
        "all",
        "kB a host p50",
        "max",
        "CPU ms a host",
    ];
    let rows = figures.troubles.iter().map(|trouble| {
        let Spectrum { p50, p99, max } = trouble.reached;
        vec![
            trouble.what.to_owned(),
            number(trouble.committed),
            number(p50),
            number(p99),
            number(max),
            number(trouble.received.p50 / 1e3),
            number(trouble.received.max / 1e3),
            milliseconds(trouble.agents_cpu / per(figures.size.agents)),
        ]
    });
    table(text, &heads, &rows.collect::<Vec<_>>());
}

/// By the figures of the most agents: what each costs who serves it when it begins, and with a change, times what there would be of them.
fn meaning(figures: &Figures, text: &mut String) {
    const HOSTS: f64 = 10_000.0;
    const RELAYS: f64 = 20.0;
    let everywhere = |change: &&Change| change.what == "a member" && change.interested == change.agents;
    let largest =
        figures.changes.iter().filter(everywhere).max_by_key(|change| (change.agents, change.members));
    let (Some(start), Some(change)) = (figures.starts.last(), largest) else { return };
    let agents = per(start.agents);
    let serving = |cpu: &Cpu| if figures.relays == 0 { cpu.cluster } else { cpu.relays } / agents;
    let (of_start, of_change) = (serving(&start.cpu), serving(&change.cpu));
    let (times, each) = (HOSTS / agents, HOSTS / RELAYS);
    writeln!(
        text,
        "On paper, for {HOSTS} hosts at {RELAYS} relays with a core each: who serves an agent takes {:.1} ms when it begins, which grows with \
         the ports in the store, and {:.3} ms for a member of a group of {} that all follow. So {each} hosts that begin at once keep their \
         relay for {:.0} s with as many ports as here, and for {:.0} s with as many a host, and a member has left the relay after {:.0} ms. \
         A host receives {:.0} kB when it begins and {:.0} bytes of such a change, all of them {:.1} GB and {:.1} MB.",
        of_start * 1e3,
        of_change * 1e3,
        change.members,
        of_start * each,
        of_start * each * times,
        of_change * each * 1e3,
        start.received.p50 / 1e3,
        change.received.p50,
        start.received.p50 * HOSTS / 1e9,
        change.received.p50 * HOSTS / 1e6,
    )
    .expect("a String takes any text");
}

pub(super) fn table(text: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    let mut line =
        |cells: &[String]| writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes any text");
    line(&heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>());
    line(
        &heads
            .iter()
            .enumerate()
            .map(|(place, _)| if place == 0 { "---" } else { "---:" }.to_owned())
            .collect::<Vec<_>>(),
    );
    rows.iter().for_each(|row| line(row));
    text.push('\n');
}

pub(super) fn number(value: f64) -> String {
    format!("{value:.2}")
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1}", seconds * 1e3)
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}", bytes / 1_000_000)
}
