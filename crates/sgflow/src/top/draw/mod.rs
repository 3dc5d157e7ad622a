//! The picture. What it is made of is all in [`App`].

mod head;
mod pages;
mod ports;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect, Size};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Link, View};

/// Below this no picture makes sense.
const LEAST: Size = Size::new(60, 18);
/// Rows above the ports: condition and source, then what the datapath is told.
const HEAD: u16 = 8;
/// Rows of the title and the heads of columns.
const TITLES: u16 = 2;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const KEY: Style = Style::new().fg(Color::Cyan);
const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Draws all of it.
pub(in crate::top) fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < LEAST.width || area.height < LEAST.height {
        let text = format!(
            "This terminal has {} columns and {} rows; top needs {} and {}. q quits.",
            area.width, area.height, LEAST.width, LEAST.height
        );
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let [head, ports, drops, foot] = areas(area);
    match &app.view {
        View::Ports => {
            head::draw(app, frame, head);
            ports::draw_ports(app, frame, ports);
            ports::draw_drops(app, frame, drops);
        }
        View::Port(id) => pages::draw_port(app, id, frame, above(area)),
        View::Faults(from) => pages::draw_faults(app, *from, frame, above(area)),
        View::Help => pages::draw_help(frame, above(area)),
    }
    draw_foot(app, frame, foot);
}

/// Head, ports, drops and the last row.
fn areas(area: Rect) -> [Rect; 4] {
    let drops = (area.height / 5).clamp(5, 14);
    let rows =
        [Constraint::Length(HEAD), Constraint::Fill(1), Constraint::Length(drops), Constraint::Length(1)];
    Layout::vertical(rows).areas(area)
}

/// All but the last row.
fn above(area: Rect) -> Rect {
    Rect { height: area.height - 1, ..area }
}

/// How many ports a terminal of this size shows.
pub(in crate::top) fn rows_for_ports(size: Size) -> usize {
    let [_, ports, ..] = areas(Rect::from((Position::ORIGIN, size)));
    usize::from(ports.height.saturating_sub(TITLES))
}

fn draw_foot(app: &App, frame: &mut Frame<'_>, area: Rect) {
    if let Some(typed) = &app.typed {
        let line = Line::from(vec![Span::styled("/", KEY), Span::raw(typed.as_str())]);
        let hint = "Enter looks, Esc does not ";
        let column = u16::try_from(line.width()).unwrap_or(u16::MAX).min(area.width - 1);
        frame.render_widget(line, area);
        if usize::from(column) + hint.len() + 1 < usize::from(area.width) {
            frame.render_widget(Line::styled(hint, DIM).right_aligned(), area);
        }
        frame.set_cursor_position((area.x + column, area.y));
        return;
    }
    let keys: &[(&str, &str)] = match app.view {
        View::Ports => &[
            ("q", "quit"),
            ("?", "help"),
            ("/", "search"),
            ("s", "order"),
            ("r", "reverse"),
            ("Enter", "port"),
            ("f", "faults"),
        ],
        View::Faults(_) => &[("Esc", "back"), ("↑ ↓", "scroll"), ("?", "help")],
        View::Port(_) | View::Help => &[("Esc", "back"), ("f", "faults"), ("?", "help")],
    };
    let spans =
        keys.iter().flat_map(|(key, what)| [Span::styled(*key, KEY), Span::raw(format!(" {what}   "))]);
    let line: Line<'_> = [Span::raw(" ")].into_iter().chain(spans).collect();
    frame.render_widget(line, area);
    // The other pages have no head that would say so.
    if let (Link::Lost { .. }, false) = (&app.link, app.view == View::Ports) {
        frame.render_widget(Line::styled("the agent does not answer ", ALARM).right_aligned(), area);
    }
}

/// A rule with a title in it.
fn title(text: String) -> ratatui::widgets::Block<'static> {
    let title = Span::styled(format!(" {text} "), BOLD);
    ratatui::widgets::Block::new().borders(ratatui::widgets::Borders::TOP).border_style(DIM).title(title)
}

/// A time that somebody waits for.
fn lasting(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// A number in no more than five characters.
fn short(count: u64) -> String {
    match count {
        0..=99_999 => count.to_string(),
        100_000..=9_999_999 => format!("{}k", count / 1000),
        10_000_000..=9_999_999_999 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

/// A rate in no more than five characters.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and to look at")]
fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{per_second:.1}"),
        _ => short(per_second.round() as u64),
    }
}

/// The clock time of a time in RFC 3339.
fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_five_characters_at_most() {
        let counts = [7, 99_999, 100_000, 9_999_999, 10_000_000, 9_999_999_999, 12_000_000_000];
        assert_eq!(counts.map(short), ["7", "99999", "100k", "9999k", "10M", "9999M", "12G"]);
        assert_eq!([0.0, 0.25, 9.94, 12.4, 123_456.0].map(rate), ["0", "0.2", "9.9", "12", "123k"]);
        assert_eq!(
            [119, 120, 7200].map(|s| lasting(std::time::Duration::from_secs(s))),
            ["119 s", "2 min", "2 h"]
        );
        assert_eq!([clock("2026-11-29T05:18:45Z"), clock("soon")], ["05:18:45", "soon"]);
    }
}
