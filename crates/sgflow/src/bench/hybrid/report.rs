//! Figures as tables for people: medians.

use std::fmt::Write as _;

use super::subject::Cost;
use super::{Figures, Step};
use crate::bench::peers::{PeerCost, PeerFigures};
use crate::bench::report::{measured, median, milliseconds, row, share};

/// The table of a driver in a scenario.
pub(super) fn table(figures: &Figures) -> String {
    let held = figures.held;
    let mut text = format!(
        "{}, {}: {} rules, {} a port, and {} elements of nftables\n\n",
        figures.scenario,
        figures.driver,
        held.rules,
        a_port(held.rules, figures.ports),
        held.elements
    );
    let heads = ["step", "changes", "messages", "programs", "agent ms", "progr. ms", "applied ms", "p99 ms"]
        .map(str::to_owned);
    text.push_str(&row(&heads));
    text.push_str(&row(&heads.map(|head| "-".repeat(head.len().min(9)))));
    for step in &figures.steps {
        let of = |part: fn(&Cost) -> f64| median(step.costs.iter().map(part));
        let most = |part: fn(&Cost) -> u64| step.costs.iter().map(part).max().unwrap_or_default().to_string();
        let worst = worst(step);
        text.push_str(&row(&[
            step.name.to_owned(),
            step.costs.iter().map(|cost| cost.changes).max().unwrap_or_default().to_string(),
            most(|cost| cost.messages),
            most(|cost| cost.programs),
            milliseconds(of(|cost| cost.agent_cpu)),
            milliseconds(of(|cost| cost.programs_cpu)),
            milliseconds(of(|cost| cost.applied)),
            worst.map(milliseconds).unwrap_or_default(),
        ]));
    }
    text
}

/// What the slowest of a hundred take, where there are so many.
fn worst(step: &Step) -> Option<f64> {
    let mut times: Vec<f64> = step.costs.iter().map(|cost| cost.applied).collect();
    times.sort_by(f64::total_cmp);
    (times.len() >= 100).then(|| times[times.len() * 99 / 100])
}

#[allow(clippy::cast_precision_loss, reason = "to one digit")]
fn a_port(rules: usize, ports: u16) -> String {
    format!("{:.1}", rules as f64 / f64::from(ports.max(1)))
}

/// The table of a peer, with what sgflow took of its processor time.
pub(super) fn peer_table(peer: &PeerFigures, figures: &Figures) -> String {
    let rules = peer.steps.first().map_or(0, |step| most(&step.costs, |cost| cost.flows));
    let mut text = format!(
        "{}, {} {}, {}: {} rules, {} a port, {}\n\n",
        figures.scenario,
        peer.name,
        peer.version,
        figures.driver,
        rules,
        a_port(rules, figures.ports),
        measured(peer),
    );
    let heads = ["step", "programs", "agent ms", "sgflow", "taken ms"].map(str::to_owned);
    text.push_str(&row(&heads));
    text.push_str(&row(&heads.map(|head| "-".repeat(head.len().min(9)))));
    for step in &peer.steps {
        let of = |part: fn(&PeerCost) -> f64| median(step.costs.iter().map(part));
        let ours = figures.steps.iter().find(|ours| ours.name == step.name);
        let ours = ours.map(|ours| median(ours.costs.iter().map(Cost::cpu)));
        text.push_str(&row(&[
            step.name.to_owned(),
            most(&step.costs, |cost| cost.programs.unwrap_or_default()).to_string(),
            milliseconds(of(|cost| cost.agent_cpu)),
            ours.map(|ours| share(ours, of(|cost| cost.agent_cpu))).unwrap_or_default(),
            milliseconds(of(|cost| cost.taken)),
        ]));
    }
    if let Some(step) = peer.given_up {
        writeln!(text, "\n{step}: given up, and what follows it.").expect("a String takes any text");
    }
    text
}

fn most(costs: &[PeerCost], part: fn(&PeerCost) -> usize) -> usize {
    costs.iter().map(part).max().unwrap_or_default()
}
