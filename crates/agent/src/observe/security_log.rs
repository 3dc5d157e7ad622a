//! The security-group log of hosts where drops alone are sampled.

use std::io;
use std::time::{Duration, Instant};

use policy::PolicyDelta;
use policy::evaluator::Settings;
use tracing::warn;

use super::book::Sighting;
use super::judge::Judge;
use super::log::{Limited, Line, Log};
use super::output::Output;
use super::{LogChoice, since_epoch};
use crate::api::rfc3339_ms;

/// How often the log is told of what was limited.
const TELL_LIMITED: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SecurityLog {
    log: Log,
    output: Output,
    began: Instant,
    told_at: Instant,
    /// What the log has been told of what was limited.
    told: u64,
}

impl SecurityLog {
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(choice: LogChoice, settings: Settings) -> io::Result<Self> {
        if choice.events.accepts() {
            warn!("security_log: this driver tells of what is dropped, and not of what is admitted");
        }
        let output = Output::start(choice.target.clone())?;
        let now = Instant::now();
        Ok(SecurityLog {
            log: Log::new(choice, Judge::new(settings)),
            output,
            began: now,
            told_at: now,
            told: 0,
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

    /// Tells of what came again, and of how many dropped packets no sample came, of which there are so many by now.
    pub(super) fn tick(&mut self, limited: u64) {
        for line in self.log.tick(self.began.elapsed(), since_epoch()) {
            write_line(&self.output, &line);
        }
        if self.told_at.elapsed() < TELL_LIMITED {
            return;
        }
        self.told_at = Instant::now();
        let line = Limited {
            time: rfc3339_ms(since_epoch()),
            dropped: limited.saturating_sub(self.told),
            accepted: 0,
            unwritten: self.output.take_unwritten(),
        };
        if (line.dropped, line.unwritten) != (0, 0) {
            write_line(&self.output, &Line::Limited(line));
        }
        self.told = self.told.max(limited);
    }
}

/// A line, as JSON.
pub(super) fn write_line(output: &Output, line: &Line) {
    match serde_json::to_value(line) {
        Ok(value) => output.write(value),
        Err(error) => warn!(%error, "a line of the security-group log cannot be written as JSON"),
    }
}
