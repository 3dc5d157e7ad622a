//! The security-group log at work: what was seen goes in, lines go out.

use std::io;
use std::time::{Duration, Instant};

use policy::PolicyDelta;
use policy::evaluator::Settings;
use tracing::{info, warn};

use super::book::Sighting;
use super::judge::Judge;
use super::log::{Limited, Line, Log};
use super::output::Output;
use super::troubles::Troubles;
use super::{LogChoice, since_epoch};
use crate::api::rfc3339_ms;

/// How often the log is told of what was limited.
const TELL_LIMITED: Duration = Duration::from_secs(10);
/// How often is looked for what came again: all that is remembered is gone through.
const LOOK: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SecurityLog {
    /// What is told of.
    pub(super) log: Log,
    output: Output,
    began: Instant,
    looked_at: Instant,
    told_at: Instant,
    told: Unsampled,
    troubles: Troubles,
    /// Why nothing is seen at the moment.
    unheard: Option<String>,
    /// What the log is to be about and the policy does not know.
    unknown: Vec<String>,
}

/// Packets of which no sample came, since the log began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unsampled {
    pub(super) dropped: u64,
    pub(super) accepted: u64,
}

impl SecurityLog {
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(choice: LogChoice, troubles: Troubles, settings: Settings) -> io::Result<Self> {
        let output = Output::start(choice.target.clone())?;
        let (log, began) = (Log::new(choice, Judge::new(settings)), Instant::now());
        Ok(SecurityLog {
            log,
            output,
            began,
            looked_at: began,
            told_at: began,
            told: Unsampled::default(),
            troubles,
            unheard: None,
            unknown: Vec::new(),
        })
    }

    pub(super) fn policy(&mut self, delta: PolicyDelta) {
        self.log.policy(delta);
    }

    pub(super) fn write(&mut self, seen: &Sighting, unix: Duration) {
        if let Some(line) = self.log.take(seen, self.began.elapsed(), unix) {
            write_line(&self.output, &line);
        }
    }

    /// Why nothing is seen at the moment, or that it is.
    pub(super) fn unheard(&mut self, reason: Option<String>) {
        if self.unheard == reason {
            return;
        }
        match &reason {
            Some(reason) => warn!(reason, "the security-group log tells of nothing"),
            None => info!("the security-group log tells of what happens"),
        }
        self.unheard = reason;
        self.tell_troubles();
    }

    /// A name that the policy does not know is a mistake, or not known yet.
    fn look_for_unknown(&mut self) {
        let unknown = self.log.unknown();
        for name in unknown.iter().filter(|name| !self.unknown.contains(name)) {
            warn!("security_log: {name}: nothing is logged for it");
        }
        if self.unknown != unknown {
            self.unknown = unknown;
            self.tell_troubles();
        }
    }

    fn tell_troubles(&self) {
        let trouble = |reason: &String| ("security_log".to_owned(), reason.clone());
        self.troubles.set(self.unheard.iter().chain(&self.unknown).map(trouble).collect());
    }

    /// Tells of what came again, and of how many packets no sample came, of which there are so many by now. May be called at any time.
    pub(super) fn tick(&mut self, unsampled: Unsampled) {
        if self.looked_at.elapsed() >= LOOK {
            self.looked_at = Instant::now();
            for line in self.log.tick(self.began.elapsed(), since_epoch()) {
                write_line(&self.output, &line);
            }
        }
        if self.told_at.elapsed() < TELL_LIMITED {
            return;
        }
        self.told_at = Instant::now();
        self.look_for_unknown();
        // What the log is not about is no loss of it.
        let events = self.log.events();
        let dropped = if events.drops() { unsampled.dropped } else { 0 };
        let accepted = if events.accepts() { unsampled.accepted } else { 0 };
        let line = Limited {
            time: rfc3339_ms(since_epoch()),
            dropped: dropped.saturating_sub(self.told.dropped),
            accepted: accepted.saturating_sub(self.told.accepted),
            unwritten: self.output.take_unwritten(),
        };
        if (line.dropped, line.accepted, line.unwritten) != (0, 0, 0) {
            write_line(&self.output, &Line::Limited(line));
        }
        let told = self.told;
        self.told = Unsampled { dropped: told.dropped.max(dropped), accepted: told.accepted.max(accepted) };
    }
}

/// A line, as JSON.
fn write_line(output: &Output, line: &Line) {
    match serde_json::to_value(line) {
        Ok(value) => output.write(value),
        Err(error) => warn!(%error, "a line of the security-group log cannot be written as JSON"),
    }
}
