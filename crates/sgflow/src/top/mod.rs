//! `sgflow top`: how the daemon is and what it does, on a terminal, asked anew each second.
//!
//! ```text
//! keys, size, time ─► App ─► Questions ─► ask (the API's socket) ─► Answers ─► App ─► draw ─► terminal
//! ```
//!
//! [`App`] holds what is shown and has neither clock nor socket; [`draw`] makes a frame of it; this module moves between them.

mod app;
mod ask;
mod draw;
mod drops;
mod list;
mod rates;
mod screen;
#[cfg(test)]
mod tests;

use std::future::{Future, pending};
use std::io::IsTerminal as _;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::exit::Exit;
use crate::options::SettingsOptions;
use app::{App, Wish};
use ask::{Answers, Questions};
use screen::Screen;

/// So often the daemon is asked.
const TICK: Duration = Duration::from_secs(1);

/// The agent on this host, on a terminal: its condition, ports, drops, flow-mods, how long changes take; asked anew each second
#[derive(Args, Debug)]
pub(crate) struct TopCommand {
    #[command(flatten)]
    settings: SettingsOptions,
}

impl TopCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let socket = self.settings.config()?.api_socket;
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            bail!(
                "top draws on a terminal, and reads its keys: standard input or output is none; for a file or \
                 a program there is `sgflow status --json`"
            );
        }
        // Before the terminal is taken: from then on these give it back.
        let mut term = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
        let mut screen = Screen::take().context("the terminal")?;
        tokio::select! {
            ended = watch(&socket, &mut screen) => ended?,
            _ = term.recv() => {}
            _ = hangup.recv() => {}
        }
        Ok(Exit::Done)
    }
}

/// An exchange with the daemon that is under way.
type Asking<'a> = Pin<Box<dyn Future<Output = (Questions, Answers)> + 'a>>;

/// Until the user has had enough.
async fn watch(socket: &Path, screen: &mut Screen) -> anyhow::Result<()> {
    let mut app = App::new(socket);
    let begin = Instant::now();
    let mut events = EventStream::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking: Option<Asking<'_>> = None;
    // The next question is not for the numbers, which come by the second.
    let mut is_hasty = false;
    loop {
        app.resize(screen.size().context("the size of the terminal")?);
        screen.draw(&app).context("the terminal")?;
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => match app.key(key) {
                    Wish::Quit => return Ok(()),
                    Wish::Ask => is_hasty = true,
                    Wish::Nothing => {}
                },
                Some(Ok(_)) => {}
                Some(Err(reason)) => return Err(reason).context("the terminal's keys"),
                None => return Ok(()),
            },
            _ = ticks.tick(), if asking.is_none() => {
                app.tick(begin.elapsed());
                asking = Some(Box::pin(ask::ask(socket, app.questions())));
            }
            (questions, answers) = answered(&mut asking) => {
                asking = None;
                is_hasty |= app.take(&questions, answers, begin.elapsed()) == Wish::Ask;
            }
        }
        if is_hasty && asking.is_none() {
            is_hasty = false;
            asking = Some(Box::pin(ask::ask(socket, app.questions_of_list())));
        }
    }
}

async fn answered(asking: &mut Option<Asking<'_>>) -> (Questions, Answers) {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}
