//! The figures of the policy store as pictures.

use super::super::plot::{Series, draw};
use super::Figures;
use super::fleets::{Change, Spectrum};

const COLOURS: [&str; 3] = ["#1f6f8b", "#e0a030", "#b23a48"];

/// The plots, by file name.
pub(super) fn all(figures: &Figures) -> [(&'static str, String); 3] {
    [
        ("store-one-member.svg", one_member(figures)),
        ("store-growth.svg", growth(figures)),
        ("store-start.svg", start(figures)),
    ]
}

/// How long a member takes to those that are interested, by how many they are.
fn one_member(figures: &Figures) -> String {
    let all = figures.size.agents;
    let mut changes: Vec<&Change> =
        figures.changes.iter().filter(|change| change.agents == all && change.what == "a member").collect();
    changes.sort_by_key(|change| (change.interested, change.members));
    let names: Vec<String> =
        changes.iter().map(|change| format!("{} of {}", change.interested, change.members)).collect();
    let of = |name: &str, place: usize, part: fn(&Spectrum) -> f64| Series {
        name: name.to_owned(),
        colour: COLOURS[place],
        seconds: changes.iter().map(|change| Some(part(&change.latency))).collect(),
    };
    let series = [of("p50", 0, |of| of.p50), of("p99", 1, |of| of.p99), of("max", 2, |of| of.max)];
    draw(
        "From the commit of a member to the agents that follow its group (hosts, members): seconds",
        &refs(&names),
        &series,
    )
}

/// The same where all follow, by the number of agents and of members.
fn growth(figures: &Figures) -> String {
    let everywhere = || {
        figures
            .changes
            .iter()
            .filter(|change| change.what == "a member" && change.interested == change.agents)
    };
    let mut members: Vec<usize> = everywhere().map(|change| change.members).collect();
    members.sort_unstable();
    members.dedup();
    let names: Vec<String> = figures.starts.iter().map(|start| format!("{} agents", start.agents)).collect();
    let of = |(place, members): (usize, &usize)| {
        let find =
            |agents: usize| everywhere().find(|change| (change.agents, change.members) == (agents, *members));
        Series {
            name: format!("p99, {members} members"),
            colour: COLOURS[place % COLOURS.len()],
            seconds: figures
                .starts
                .iter()
                .map(|start| find(start.agents).map(|change| change.latency.p99))
                .collect(),
        }
    };
    let series: Vec<Series> = members.iter().enumerate().map(of).collect();
    draw(
        "From the commit of a member to the last of a hundred agents, all of which follow: seconds",
        &refs(&names),
        &series,
    )
}

/// All begin at once.
fn start(figures: &Figures) -> String {
    let names: Vec<String> = figures.starts.iter().map(|start| format!("{} agents", start.agents)).collect();
    let of = |name: &str, place: usize, part: fn(&super::Start) -> f64| Series {
        name: name.to_owned(),
        colour: COLOURS[place],
        seconds: figures.starts.iter().map(|start| Some(part(start))).collect(),
    };
    let series = [
        of("until the last has its policy", 0, |start| start.seconds),
        of("processor time of relays", 1, |start| start.cpu.relays),
        of("processor time of agents", 2, |start| start.cpu.agents),
    ];
    draw("All agents begin at once: seconds", &refs(&names), &series)
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
