//! The table of ports, and the drops below it.

use agent::api::{PortEntry, PortState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::{ALARM, BOLD, DIM, clock, rate, short, title};
use crate::text::cut;
use crate::top::app::App;
use crate::top::drops::Count;
use crate::top::list::{List, Rows};

/// With so many columns an id of 36 characters is shown whole.
const WIDE: u16 = 110;

pub(super) fn draw_ports(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let rows = app.list.rows(&app.drops);
    let block = title(heading(app, &rows));
    if rows.ports.is_empty() {
        let text = none(&app.list);
        frame.render_widget(Paragraph::new(Line::styled(format!(" {text}"), DIM)).block(block), area);
        return;
    }
    let (id, interface) = if area.width < WIDE { (20, 15) } else { (36, 15) };
    let widths = [
        Constraint::Length(id),
        Constraint::Length(interface),
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Length(6),
    ];
    let right = |text: &'static str| Line::raw(text).right_aligned();
    let header = Row::new([
        Line::raw(" PORT"),
        Line::raw("INTERFACE"),
        Line::raw("GROUPS, OR WHY"),
        Line::raw("STATE"),
        right("DROPS/S"),
        right("DROPS"),
    ]);
    let table = rows.ports.iter().map(|port| row(app, port, usize::from(id)));
    let table = Table::new(table, widths)
        .header(header.style(DIM))
        .block(block)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(app.list.marked.min(rows.ports.len() - 1));
    frame.render_stateful_widget(table, area, &mut state);
}

/// What is listed, and how.
fn heading(app: &App, rows: &Rows<'_>) -> String {
    let List { order, is_reversed, search, .. } = &app.list;
    let total = app.status.as_ref().map(|status| status.enforced.ports);
    let (first, last) = (rows.above + 1, rows.above + rows.ports.len());
    let mut text = match search {
        Some(search) => format!("ports with \"{}\"", cut(search, 24)),
        None => "ports".to_owned(),
    };
    let all = rows.found.filter(|_| search.is_some()).or(total);
    if let (true, Some(count)) = (last >= first, all) {
        text += &format!(" {first}–{last} of {count}");
    }
    text += &format!(", by {}", order.name());
    if *is_reversed {
        text += " reversed";
    }
    if let Some(looked_at) = app.list.looked_at().filter(|_| app.list.is_gathered()) {
        text += &format!("; {looked_at} looked at");
    }
    text
}

fn none(list: &List) -> String {
    if let Some(reason) = &list.unlisted {
        return reason.clone();
    }
    match (&list.search, list.looked_at()) {
        (Some(_), Some(_)) => "none so far".to_owned(),
        (Some(_), None) => "none; Esc lists all".to_owned(),
        (None, _) => "none".to_owned(),
    }
}

fn row(app: &App, port: &PortEntry, id: usize) -> Row<'static> {
    let drops = app.drops.sum_of_port(&port.id);
    let told = app.drops.told().map(|_| Count::default());
    let number = |of: fn(Count) -> String| {
        let text = drops.or(told).map_or_else(|| "-".to_owned(), of);
        Line::raw(text).right_aligned()
    };
    let style = if drops.is_some_and(|drops| drops.per_second > 0.0) { BOLD } else { Style::new() };
    Row::new([
        Line::raw(format!(" {}", cut(&port.id, id - 1))),
        Line::raw(cut(port.interface.as_deref().unwrap_or("-"), 15)),
        Line::raw(groups_or_why(app, port)),
        Line::styled(port.state.to_string(), of_state(port.state)),
        number(|count| rate(count.per_second)).style(style),
        number(|count| short(count.packets)).style(style),
    ])
}

fn groups_or_why(app: &App, port: &PortEntry) -> String {
    match (&port.reason, &port.refused) {
        (Some(reason), _) | (None, Some(reason)) => reason.clone(),
        (None, None) => names(app, &port.groups).join(", "),
    }
}

/// Groups by their names, those that have none by their ids.
pub(super) fn names(app: &App, groups: &[String]) -> Vec<String> {
    let name = |id: &String| app.list.names.get(id).filter(|name| !name.is_empty()).unwrap_or(id).clone();
    groups.iter().map(name).collect()
}

fn of_state(state: PortState) -> Style {
    match state {
        PortState::Filtered => Style::new().fg(Color::Green),
        PortState::Trusted => Style::new().fg(Color::Blue),
        PortState::Closed | PortState::Refused => Style::new().fg(Color::Magenta),
        PortState::Unfiltered => ALARM,
        PortState::Pending => Style::new().fg(Color::Yellow),
    }
}

pub(super) fn draw_drops(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let Some(told) = app.drops.told() else {
        let text = app.drops.untold.clone().unwrap_or_default();
        let line = Line::styled(format!(" {text}"), DIM);
        frame.render_widget(Paragraph::new(line).block(title("drops".to_owned())), area);
        return;
    };
    let sum = app.drops.sum();
    let mut heading = format!("drops {}/s, {} since {}", rate(sum.per_second), sum.packets, told.since);
    if told.limited > 0 {
        heading += &format!("; {} of them in no sample", short(told.limited));
    }
    let reasons = app.drops.reasons();
    let by_reason = match reasons.is_empty() {
        true => vec![Span::styled(" none", DIM)],
        false => of_reasons(&reasons),
    };
    let mut lines = vec![Line::from(by_reason)];
    if let Some(reason) = &app.drops.untold {
        lines.push(Line::styled(format!(" not told at the moment: {reason}"), ALARM));
    }
    if let Some(reason) = &told.not_sampled {
        lines.push(Line::styled(format!(" no samples: {reason}"), DIM));
    }
    lines.extend(samples(app, None, usize::from(area.height)));
    frame.render_widget(Paragraph::new(lines).block(title(heading)), area);
}

/// Reasons in one line, each with its count.
pub(super) fn of_reasons(reasons: &[(&str, Count)]) -> Vec<Span<'static>> {
    let spans = reasons.iter().flat_map(|(reason, count)| {
        let mut text = format!(" {}", short(count.packets));
        if count.per_second > 0.0 {
            text += &format!(", {}/s", rate(count.per_second));
        }
        [Span::raw(" "), Span::styled((*reason).to_owned(), BOLD), Span::raw(text + "  ")]
    });
    spans.collect()
}

/// The latest samples, of all ports or of one.
pub(super) fn samples(app: &App, port: Option<&str>, most: usize) -> Vec<Line<'static>> {
    let samples = app.drops.samples().filter(|sample| port.is_none() || sample.port.as_deref() == port);
    let line = |sample: &agent::api::DropSample| {
        let of = sample.port.as_deref().unwrap_or("-");
        let of = if port.is_some() { String::new() } else { format!("{:15} ", cut(of, 15)) };
        let direction = sample.direction.as_deref().unwrap_or("-");
        Line::from(vec![
            Span::styled(format!(" {} ", clock(&sample.time)), DIM),
            Span::raw(format!("{of}{direction:7} ")),
            Span::styled(format!("{} ", sample.reason), BOLD),
            Span::raw(sample.packet.clone()),
        ])
    };
    samples.take(most).map(line).collect()
}
