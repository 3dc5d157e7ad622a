//! What is shown: keys and answers in, questions and a picture out.

use std::path::Path;
use std::time::Duration;

use agent::api::{ClientError, Condition, PortEntry, Status};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Size;

use super::ask::{Answers, Questions};
use super::draw::rows_for_ports;
use super::drops::DropsSeen;
use super::list::List;
use super::rates::History;

/// Names of so many groups are asked for at a time.
const NAMES_AT_A_TIME: usize = 4;
/// So many names are kept.
const NAMES: usize = 4096;

/// What a key asks of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To draw.
    Nothing,
    /// Ports that are not there yet.
    Ask,
    /// The end.
    Quit,
}

/// What stands on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    Ports,
    /// One port alone.
    Port(String),
    /// What is wrong, from this line on.
    Faults(usize),
    Help,
}

/// Whether the daemon answers.
#[derive(Debug)]
pub(super) enum Link {
    /// It has not been asked yet.
    Asking,
    Answers,
    /// Not since then, and why.
    Lost {
        since: Duration,
        reason: String,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct App {
    pub(super) socket: String,
    /// Since the begin.
    pub(super) now: Duration,
    pub(super) size: Size,
    pub(super) view: View,
    pub(super) link: Link,
    pub(super) status: Option<Status>,
    /// Since when the condition is what it is, and whether it was another before.
    pub(super) condition: Option<(Condition, Duration, bool)>,
    pub(super) history: History,
    pub(super) drops: DropsSeen,
    pub(super) list: List,
    /// What is typed as something to look for.
    pub(super) typed: Option<String>,
    /// The port that is shown alone, as it was told last: empty if there is none.
    pub(super) port: Option<Vec<PortEntry>>,
}

impl App {
    /// Of the daemon at this socket.
    pub(super) fn new(socket: &Path) -> Self {
        App {
            socket: socket.display().to_string(),
            now: Duration::ZERO,
            size: Size::new(80, 24),
            view: View::Ports,
            link: Link::Asking,
            status: None,
            condition: None,
            history: History::default(),
            drops: DropsSeen::default(),
            list: List::default(),
            typed: None,
            port: None,
        }
    }

    /// The terminal is so large.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.list.resize(rows_for_ports(size));
    }

    /// A second has gone by.
    pub(super) fn tick(&mut self, now: Duration) {
        self.now = now;
        self.list.tick();
    }

    /// What is to be asked each second.
    pub(super) fn questions(&self) -> Questions {
        Questions { numbers: Some(self.drops.newest()), ..self.questions_of_list() }
    }

    /// What is to be asked when a key was struck.
    pub(super) fn questions_of_list(&self) -> Questions {
        let port = match &self.view {
            View::Port(id) => Some(id.clone()),
            _ => self.list.search.clone(),
        };
        let (page, walk) = (self.list.page(), self.list.walk());
        Questions { numbers: None, page, walk, port, groups: self.unnamed() }
    }

    /// Groups in sight whose names are not known, and what is looked for.
    fn unnamed(&self) -> Vec<String> {
        let in_sight = self.list.rows(&self.drops).ports;
        let alone = self.port.iter().flatten();
        let groups = in_sight.into_iter().chain(alone).flat_map(|port| &port.groups);
        // What is looked for may be a group's name.
        let groups = groups.chain(&self.list.search);
        let mut unnamed: Vec<String> =
            groups.filter(|group| !self.list.names.contains_key(*group)).cloned().collect();
        unnamed.sort_unstable();
        unnamed.dedup();
        unnamed.truncate(NAMES_AT_A_TIME);
        unnamed
    }

    /// What the daemon has said.
    pub(super) fn take(&mut self, questions: &Questions, answers: Answers, now: Duration) -> Wish {
        self.now = now;
        let mut is_asked = false;
        let Answers { status, drops, page, walk, port, groups } = answers;
        match status {
            Some(Ok(status)) => self.take_status(status),
            Some(Err(reason)) => self.lost(&reason),
            None => {}
        }
        if let Some(drops) = drops {
            self.drops.take(now, drops);
        }
        match (&questions.page, page) {
            (Some(query), Some(Ok(page))) => is_asked = self.list.take_page(query, page),
            (_, Some(Err(reason))) => self.unlisted(&reason),
            _ => {}
        }
        match (&questions.walk, walk) {
            (Some(query), Some(Ok(page))) => self.list.take_walk(query, page),
            (_, Some(Err(reason))) => self.unlisted(&reason),
            _ => {}
        }
        if let (Some(asked), Some(Ok(ports))) = (&questions.port, port) {
            match &self.view {
                View::Port(id) if id == asked => self.port = Some(ports),
                _ if self.list.search.as_ref() == Some(asked) => self.list.take_port(ports),
                _ => {}
            }
        }
        if self.list.names.len() > NAMES {
            self.list.names.clear();
        }
        // Of those of which nothing is said it is known that they have no name.
        self.list.names.extend(questions.groups.iter().map(|asked| (asked.clone(), String::new())));
        self.list.names.extend(groups.into_iter().map(|group| (group.id, group.name)));
        if is_asked { Wish::Ask } else { Wish::Nothing }
    }

    fn take_status(&mut self, status: Status) {
        self.history.take(self.now, &status.changes);
        self.condition = match self.condition {
            Some(known @ (condition, ..)) if condition == status.condition => Some(known),
            before => Some((status.condition, self.now, before.is_some())),
        };
        self.link = Link::Answers;
        self.status = Some(status);
    }

    fn lost(&mut self, reason: &ClientError) {
        let since = match self.link {
            Link::Lost { since, .. } => since,
            Link::Asking | Link::Answers => self.now,
        };
        self.link = Link::Lost { since, reason: reason.to_string() };
        // When it is back, nobody knows how it was meanwhile.
        self.condition = None;
    }

    fn unlisted(&mut self, reason: &ClientError) {
        self.list.unlisted = Some(match reason {
            ClientError::Refused { text, .. } => text.clone(),
            ClientError::Unreachable { .. } | ClientError::Broken { .. } => reason.to_string(),
        });
    }

    /// A key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return Wish::Quit;
        }
        if let Some(typed) = self.typed.take() {
            return self.type_key(typed, key.code, is_control);
        }
        match (key.code, &self.view) {
            (KeyCode::Char('q'), View::Ports) => return Wish::Quit,
            (
                KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter,
                View::Help | View::Port(_) | View::Faults(_),
            ) => {
                self.view = View::Ports;
                self.port = None;
            }
            (KeyCode::Char('?' | 'h'), _) => self.view = View::Help,
            (KeyCode::Char('f'), _) => self.view = View::Faults(0),
            (code, View::Faults(from)) => self.view = View::Faults(self.faults_from(*from, code)),
            (code, View::Ports) => return self.list_key(code),
            _ => {}
        }
        Wish::Nothing
    }

    /// A key while something to look for is typed.
    fn type_key(&mut self, mut typed: String, code: KeyCode, is_control: bool) -> Wish {
        match code {
            KeyCode::Esc => return Wish::Nothing,
            KeyCode::Enter => {
                let search = Some(typed.trim().to_owned()).filter(|typed| !typed.is_empty());
                self.list.look_for(search);
                return Wish::Ask;
            }
            KeyCode::Backspace => _ = typed.pop(),
            KeyCode::Char('u') if is_control => typed.clear(),
            KeyCode::Char(letter) if !is_control => typed.push(letter),
            _ => {}
        }
        self.typed = Some(typed);
        Wish::Nothing
    }

    fn list_key(&mut self, code: KeyCode) -> Wish {
        let List { marked, .. } = self.list;
        let is_asked = match code {
            KeyCode::Down | KeyCode::Char('j') => self.list.step(true, &self.drops),
            KeyCode::Up | KeyCode::Char('k') => self.list.step(false, &self.drops),
            KeyCode::PageDown | KeyCode::Char(' ') => self.list.turn(true, &self.drops),
            KeyCode::PageUp | KeyCode::Char('b') => self.list.turn(false, &self.drops),
            KeyCode::Home | KeyCode::Char('g') => {
                self.list.begin();
                true
            }
            KeyCode::Char('s') => {
                self.list.reorder();
                true
            }
            KeyCode::Char('r') => {
                self.list.reverse();
                true
            }
            KeyCode::Char('/') => {
                self.typed = Some(self.list.search.clone().unwrap_or_default());
                false
            }
            KeyCode::Esc => {
                let was_found = self.list.search.is_some();
                self.list.look_for(None);
                was_found
            }
            KeyCode::Enter => {
                let port = self.list.rows(&self.drops).ports.get(marked).map(|port| (*port).clone());
                let Some(port) = port else { return Wish::Nothing };
                self.view = View::Port(port.id.clone());
                self.port = Some(vec![port]);
                true
            }
            _ => false,
        };
        if is_asked { Wish::Ask } else { Wish::Nothing }
    }

    /// The first fault in sight after a key.
    fn faults_from(&self, from: usize, code: KeyCode) -> usize {
        let count = self.status.as_ref().map_or(0, |status| status.faults.len());
        let page = usize::from(self.size.height).saturating_sub(2) / 2;
        let to = match code {
            KeyCode::Down | KeyCode::Char('j') => from + 1,
            KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => from + page,
            KeyCode::PageUp | KeyCode::Char('b') => from.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            _ => from,
        };
        to.min(count.saturating_sub(1))
    }
}
