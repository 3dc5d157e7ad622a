//! The verdicts as a table that fits a terminal.

use super::guests::Guests;
use super::probes::{Question, Service, Verdicts};

/// A row a pair of one network, a column a service; each cell is IPv4 then IPv6.
pub(crate) fn render(guests: &Guests, expected: &Verdicts, seen: &Verdicts) -> String {
    let services = Service::all();
    let mut text = format!("\n  {:<20}", "from → to");
    for service in &services {
        text += &format!("{:>10}", service.name());
    }
    text += "\n";
    for from in guests.iter() {
        for to in guests.iter().filter(|to| to.id != from.id && to.vlan == from.vlan) {
            text += &format!("  {:<20}", format!("{} → {}", from.id, to.id));
            for service in &services {
                let cell = [false, true].map(|ipv6| {
                    let question =
                        Question { from: from.id.clone(), to: to.id.clone(), service: *service, ipv6 };
                    mark(expected.get(&question).copied(), seen.get(&question).copied())
                });
                text += &format!("{:>10}", cell.join(" "));
            }
            text += "\n";
        }
    }
    text += "  (IPv4 IPv6: ✓ passes, · is dropped, ✗ leaked, ! was dropped and should pass)\n";
    text
}

fn mark(expected: Option<bool>, seen: Option<bool>) -> &'static str {
    match (expected, seen) {
        (Some(true), Some(true)) => "✓",
        (Some(false), Some(false)) => "·",
        (Some(false), Some(true)) => "✗",
        _ => "!",
    }
}

/// What was not as expected, a line each.
pub(crate) fn differences(expected: &Verdicts, seen: &Verdicts) -> Vec<String> {
    let wrong = expected.iter().filter(|(question, verdict)| seen.get(question) != Some(verdict));
    let line = |(question, verdict): (&Question, &bool)| {
        let family = if question.ipv6 { "IPv6" } else { "IPv4" };
        let words = |passed: bool| if passed { "passes" } else { "is dropped" };
        let seen = seen.get(question).copied();
        format!(
            "{} → {} {} over {family}: expected that it {}, seen that it {}",
            question.from,
            question.to,
            question.service.name(),
            words(*verdict),
            seen.map_or("was not asked", words)
        )
    };
    wrong.map(line).collect()
}
