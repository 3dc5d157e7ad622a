//! What the daemon logs, changed while it runs.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing::warn;

/// A filter is not longer.
const LONGEST: usize = 4096;

/// The answer to `GET /v1/log` and `PUT /v1/log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, `off`, or a filter by module.
    pub filter: String,
    /// What was logged when the daemon began.
    pub begun_with: String,
}

/// What `PUT /v1/log` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogChange {
    /// What is to be logged; null: what was logged when the daemon began. Where it names modules alone, that is logged besides.
    pub filter: Option<String>,
}

/// Puts a filter in force, or says why it cannot be.
type Put = Box<dyn FnOnce() -> Result<(), String>>;
/// Reads a filter and gives what puts it in force, or says what is wrong with it.
type Read = dyn Fn(&str) -> Result<Put, String> + Send + Sync;

/// The filter that is in force, and the way to another one.
pub struct LogFilter {
    begun_with: String,
    current: Mutex<String>,
    read: Box<Read>,
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.state()).finish()
    }
}

impl LogFilter {
    /// `filter` is in force; `read` reads another one, and what it gives puts that in its place.
    pub fn new<P>(filter: &str, read: impl Fn(&str) -> Result<P, String> + Send + Sync + 'static) -> Self
    where
        P: FnOnce() -> Result<(), String> + 'static,
    {
        let current = Mutex::new(filter.to_owned());
        let read = move |text: &str| read(text).map(|put| Box::new(put) as Put);
        LogFilter { begun_with: filter.to_owned(), current, read: Box::new(read) }
    }

    /// What is logged.
    pub fn state(&self) -> LogState {
        let filter = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LogState { filter, begun_with: self.begun_with.clone() }
    }

    /// Logs something else from now on, what `user` wants; that is told under the filter that goes.
    ///
    /// # Errors
    /// It is no filter; nothing is changed.
    pub fn change(&self, change: &LogChange, user: u32) -> Result<LogState, String> {
        let filter = match &change.filter {
            None => &self.begun_with,
            Some(filter) if filter.len() > LONGEST => return Err(format!("more than {LONGEST} bytes")),
            Some(filter) if has_level_for_all(filter) => filter,
            Some(filter) => &format!("{},{filter}", self.begun_with),
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let put = (self.read)(filter)?;
        let before = current.clone();
        // The new one may not let it through.
        warn!(filter, before, user, "what is logged is changed");
        put()?;
        filter.clone_into(&mut current);
        drop(current);
        Ok(self.state())
    }
}

/// Whether a filter says of everything how much of it is logged, rather than of single modules.
fn has_level_for_all(filter: &str) -> bool {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    filter.split(',').any(|directive| is_level(directive.trim()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_filter_is_in_force_until_another_one_is_taken_and_the_first_comes_back() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&taken);
        let filter = LogFilter::new("info", move |filter| {
            let (seen, filter) = (Arc::clone(&seen), filter.to_owned());
            let is_read = !filter.contains("nonsense=");
            let put = move || {
                seen.lock().unwrap().push(filter);
                Ok(())
            };
            is_read.then_some(put).ok_or_else(|| "no filter".to_owned())
        });
        let change = |text: Option<&str>| filter.change(&LogChange { filter: text.map(str::to_owned) }, 0);
        assert_eq!(change(Some("debug")).unwrap().filter, "debug");
        assert_eq!(change(Some("nonsense=")), Err("no filter".to_owned()));
        assert_eq!(filter.state(), LogState { filter: "debug".into(), begun_with: "info".into() });
        assert!(change(Some(&"x".repeat(5000))).is_err());
        assert_eq!(change(Some("agent::engine=trace")).unwrap().filter, "info,agent::engine=trace");
        assert_eq!(change(Some("agent=trace,WARN")).unwrap().filter, "agent=trace,WARN");
        assert_eq!(change(None).unwrap().filter, "info");
        assert_eq!(*taken.lock().unwrap(), ["debug", "info,agent::engine=trace", "agent=trace,WARN", "info"]);
    }
}
