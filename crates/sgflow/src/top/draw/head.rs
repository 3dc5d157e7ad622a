//! Condition, source and faults; what the datapath is told, and how long that takes.

use agent::api::{Condition, FaultDocument, Status};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, RenderDirection, Row, Sparkline, Table, Wrap};

use super::{ALARM, BOLD, DIM, KEY, lasting, rate};
use crate::top::app::{App, Link};
use crate::top::rates::Times;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let [said, told] = Layout::vertical([Constraint::Length(4), Constraint::Length(4)]).areas(area);
    match (&app.link, &app.status) {
        (Link::Lost { since, reason }, _) => draw_lost(app, *since, reason, frame, said),
        (_, Some(status)) => draw_status(app, status, frame, said),
        (_, None) => frame.render_widget(Line::raw(format!(" asking the agent at {} …", app.socket)), said),
    }
    let [mods, times] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(42)]).areas(told);
    draw_mods(app, frame, mods);
    draw_times(app, frame, times);
}

fn draw_lost(app: &App, since: std::time::Duration, reason: &str, frame: &mut Frame<'_>, area: Rect) {
    let time = lasting(app.now.saturating_sub(since));
    let old = if app.status.is_some() { "; what stands below is from before" } else { "" };
    let head = Line::styled(format!(" NO ANSWER for {time}, asked again each second{old}"), ALARM);
    let text = vec![head, Line::raw(format!(" {reason}"))];
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), area);
}

fn draw_status(app: &App, status: &Status, frame: &mut Frame<'_>, area: Rect) {
    let Status { firewall_driver, version, enforced, refused, drift, .. } = status;
    let runs = format!("{firewall_driver}, sgflow {version} ");
    frame.render_widget(Line::raw(runs).right_aligned(), area);
    let drift = match drift.mended {
        0 => "no drift".to_owned(),
        mended => format!("drift {mended}, last {}", drift.last.as_deref().unwrap_or("unknown")),
    };
    let refused = if *refused > 0 { format!("; {refused} refused") } else { String::new() };
    let totals = format!(
        " {} ports, {} sets, {} flows{refused}; {drift}",
        enforced.ports, enforced.sets, enforced.flows
    );
    let lines = vec![condition(app, status), source(status), Line::raw(totals), trouble(status)];
    frame.render_widget(Paragraph::new(lines), area);
}

fn condition(app: &App, status: &Status) -> Line<'static> {
    let color = match status.condition {
        Condition::Converged => Color::Green,
        Condition::Converging => Color::Yellow,
        Condition::Degraded => Color::Magenta,
        Condition::Disconnected => Color::Red,
    };
    let name = status.condition.to_string().to_uppercase();
    let since = app.condition.map(|(_, since, is_known)| {
        let time = lasting(app.now.saturating_sub(since));
        // Seen from the first answer on; how long it was so before, nobody has told.
        if is_known { format!(" for {time}") } else { format!(" for {time} at least") }
    });
    Line::from(vec![Span::styled(format!(" {name}"), BOLD.fg(color)), Span::raw(since.unwrap_or_default())])
}

fn source(status: &Status) -> Line<'static> {
    let source = &status.source;
    let mut text = format!(" source {}", source.kind);
    if let Some(changed) = &source.changed {
        text += &format!(", changed {changed}");
    }
    if let Some(sequence) = source.sequence {
        text += &format!(", change {sequence}");
    }
    match source.lag_s {
        0 => Line::raw(text + ", followed"),
        lag_s => {
            Line::from(vec![Span::raw(text), Span::styled(format!("; not followed for {lag_s} s"), ALARM)])
        }
    }
}

/// What is waited for, or the worst fault.
fn trouble(status: &Status) -> Line<'static> {
    if let Some(waiting) = &status.waiting {
        return Line::from(vec![Span::styled(" waiting for ", ALARM), Span::raw(waiting.clone())]);
    }
    let worst = |fault: &&FaultDocument| {
        ["open", "closed", "left-out", "kept", "unseen"].iter().position(|effect| fault.effect == *effect)
    };
    let Some(FaultDocument { object, reason, effect }) = status.faults.iter().min_by_key(worst) else {
        return Line::styled(" no faults", DIM);
    };
    let others = match status.faults.len() {
        1 => String::new(),
        count => format!("{count} faults (f); "),
    };
    let style = if effect == "open" { ALARM } else { Style::new().fg(Color::Magenta) };
    Line::from(vec![
        Span::raw(format!(" {others}")),
        Span::styled(effect.clone(), style),
        Span::raw(format!(" {object}: {reason}")),
    ])
}

fn draw_mods(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let rows = [Constraint::Length(1), Constraint::Length(2), Constraint::Length(1)];
    let [head, picture, foot] = Layout::vertical(rows).areas(area);
    let (mods, bundles) = match app.history.rates() {
        Some((mods, bundles)) => (rate(mods), rate(bundles)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let number = |text: String| Span::styled(format!("{text:<5}"), BOLD);
    let head_line =
        vec![Span::raw(" flow-mods/s "), number(mods), Span::raw("   bundles/s "), number(bundles)];
    frame.render_widget(Line::from(head_line), head);
    let data: Vec<u64> = app.history.flow_mods().rev().take(usize::from(area.width)).collect();
    let inner = Rect { x: picture.x + 1, width: picture.width.saturating_sub(3), ..picture };
    let line = Sparkline::default().data(data).direction(RenderDirection::RightToLeft).style(KEY);
    frame.render_widget(line, inner);
    if let Some(status) = &app.status {
        let changes = &status.changes;
        let told = changes.added + changes.modified + changes.deleted;
        let mut text = format!(" {told} in {} bundles", changes.bundles);
        if let Some(most @ 1..) = app.history.flow_mods().max() {
            text += &format!("; at most {}/s", super::short(most));
        }
        if changes.bundles_refused + changes.bundles_unknown > 0 {
            text += &format!("; {} failed", changes.bundles_refused + changes.bundles_unknown);
        }
        frame.render_widget(Line::styled(text, DIM), foot);
    }
}

fn draw_times(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let (times, is_recent) = app.history.times();
    let title = if is_recent { "changes, last minute" } else { "changes, since begin" };
    let header = Row::new([title, "count", "half", "99 %"].map(right)).style(DIM);
    let rows = times.iter().map(|times| {
        let Times { stage, count, half_us, most_us } = times;
        let time = |bound: Option<u64>| if *count == 0 { "-".to_owned() } else { within(bound) };
        Row::new([
            Line::raw(format!("  {stage}")),
            Line::raw(super::short(*count)).right_aligned(),
            Line::raw(time(*half_us)).right_aligned(),
            Line::raw(time(*most_us)).right_aligned(),
        ])
    });
    let widths = [20, 5, 7, 7].map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(header), area);
}

fn right(text: &'static str) -> Line<'static> {
    if text.starts_with("changes") { Line::raw(text) } else { Line::raw(text).right_aligned() }
}

/// The bound below which a time is.
fn within(bound_us: Option<u64>) -> String {
    match bound_us {
        None => "longer".to_owned(),
        Some(us) if us < 1_000_000 => format!("≤{} ms", decimal(us, 1_000)),
        Some(us) => format!("≤{} s", decimal(us, 1_000_000)),
    }
}

/// In a larger unit, with one decimal if it has one.
fn decimal(count: u64, unit: u64) -> String {
    match count % unit * 10 / unit {
        0 => (count / unit).to_string(),
        tenth => format!("{}.{tenth}", count / unit),
    }
}
