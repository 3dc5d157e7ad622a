//! What takes the whole screen: one port, the faults, help.

use agent::api::FaultDocument;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::ports::{names, of_reasons, samples};
use super::{ALARM, BOLD, DIM, KEY, title};
use crate::ports::sheet;
use crate::text::wrap;
use crate::top::app::App;

pub(super) fn draw_port(app: &App, id: &str, frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    match app.port.as_deref() {
        Some([]) => {
            lines.push(Line::styled(" no interface of the bridge says that it is this port any more", ALARM))
        }
        ports => {
            for port in ports.into_iter().flatten() {
                let mut port = port.clone();
                port.groups = names(app, &port.groups);
                lines.extend(sheet(&port).lines().skip(1).map(|line| Line::raw(line.to_owned())));
            }
        }
    }
    lines.push(Line::default());
    let reasons = app.drops.of_port(id);
    match (app.drops.told().is_some(), reasons.is_empty()) {
        (false, _) => {
            let why = app.drops.untold.clone().unwrap_or_default();
            lines.push(Line::styled(format!("  drops are not known: {why}"), DIM));
        }
        (true, true) => lines.push(Line::styled("  no drops are known", DIM)),
        (true, false) => {
            let head = Span::raw("  drops      ");
            lines.push([head].into_iter().chain(of_reasons(&reasons)).collect());
        }
    }
    lines.extend(samples(app, Some(id), usize::from(area.height)));
    let page = Paragraph::new(lines).wrap(Wrap { trim: false }).block(title(format!("port {id}")));
    frame.render_widget(page, area);
}

/// What is said of a fault stands in this column.
const SAID: usize = 11;

pub(super) fn draw_faults(app: &App, from: usize, frame: &mut Frame<'_>, area: Rect) {
    let faults = app.status.as_ref().map(|status| status.faults.as_slice()).unwrap_or_default();
    let of_fault = |fault: &FaultDocument| {
        let FaultDocument { object, reason, effect } = fault;
        let style = if effect == "open" { ALARM } else { BOLD };
        let text = wrap(&format!("  {effect:9}{object}: {reason}"), SAID);
        let styled = |(index, line): (usize, &str)| match line.split_at_checked(SAID).filter(|_| index == 0) {
            Some((effect, said)) => {
                Line::from(vec![Span::styled(effect.to_owned(), style), Span::raw(said.to_owned())])
            }
            None => Line::raw(line.to_owned()),
        };
        text.lines().enumerate().map(styled).collect::<Vec<_>>()
    };
    let lines: Vec<Line<'_>> = match faults.is_empty() {
        true => vec![Line::styled(" none", DIM)],
        // Those that do not fit any more cost nothing.
        false => faults.iter().skip(from).take(usize::from(area.height)).flat_map(of_fault).collect(),
    };
    let heading = match faults.len() {
        0 => "faults".to_owned(),
        count => format!("faults, from {} of {count}", from + 1),
    };
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(title(heading)), area);
}

const HELP: &[(&str, &str)] = &[
    ("↑ ↓  k j", "one port up, down"),
    ("PgUp PgDn", "one page (also b and the space bar)"),
    ("Home  g", "to the first port"),
    ("/", "look for part of an id, interface, address, MAC, group, state"),
    ("Esc", "all ports again; back from a page"),
    ("s", "order: id, drops/s, drops, state, interface"),
    ("r", "the other way round"),
    ("Enter", "all that is known of the marked port, and what it is denied"),
    ("f", "faults: what is not as the policy wants"),
    ("q  Ctrl-C", "quit"),
];

const NOTES: &[&str] = &[
    "A search, and any other order than id, reads all ports once, a page a second.",
    "changes: from what happened to what is to be sent (rendered), to what the",
    "switch has taken (acknowledged), to its caches (applied): half, and 99 of a",
    "hundred, took no longer. The same as text: sgflow status, sgflow ports.",
];

pub(super) fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let keys = HELP
        .iter()
        .map(|(key, what)| Line::from(vec![Span::styled(format!("  {key:11}"), KEY), Span::raw(*what)]));
    let notes = NOTES.iter().map(|note| Line::styled(format!("  {note}"), DIM));
    let lines: Vec<Line<'_>> = keys.chain([Line::default()]).chain(notes).collect();
    frame.render_widget(
        Paragraph::new(lines).wrap(Wrap { trim: false }).block(title("keys".to_owned())),
        area,
    );
}
