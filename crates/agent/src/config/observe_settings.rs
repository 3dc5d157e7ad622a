//! `[drops]` and `[security_log]`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, SourceKind, from_text};
use crate::observe::{Events, LogChoice, LogTarget, Options, SAMPLES};

/// The packets a second that are sampled for the log when nothing else is said: what costs a switch under ten thousand packets a second less than
/// a tenth more (docs/benchmarks, "Looking at what is dropped").
const RATE: u32 = 25;
/// What a switch sends easily besides its work.
const MOST: u32 = 10_000;
/// What `path` says for the journal.
const JOURNAL: &str = "journal";

/// `[drops]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DropsSettings {
    /// See [`Options::samples`].
    pub samples: Option<u32>,
}

/// `[security_log]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityLogSettings {
    /// A file, or `journal`.
    pub path: Option<PathBuf>,
    /// See [`LogChoice::events`].
    #[serde(deserialize_with = "from_text")]
    pub events: Option<Events>,
    /// See [`LogChoice::ports`].
    pub ports: Option<Vec<String>>,
    /// See [`LogChoice::groups`].
    pub groups: Option<Vec<String>>,
    /// See [`LogChoice::rules`].
    pub rules: Option<Vec<String>>,
    /// See [`LogChoice::rate`].
    pub rate: Option<u32>,
}

impl DropsSettings {
    pub(super) fn or(self, other: DropsSettings) -> DropsSettings {
        DropsSettings { samples: self.samples.or(other.samples) }
    }
}

impl SecurityLogSettings {
    pub(super) fn or(self, other: SecurityLogSettings) -> SecurityLogSettings {
        SecurityLogSettings {
            path: self.path.or(other.path),
            events: self.events.or(other.events),
            ports: self.ports.or(other.ports),
            groups: self.groups.or(other.groups),
            rules: self.rules.or(other.rules),
            rate: self.rate.or(other.rate),
        }
    }

    fn complete(self, is_policy_whole: bool) -> Result<Option<LogChoice>, ConfigError> {
        let target = match self.path {
            None => return Ok(None),
            Some(path) if path.as_os_str() == JOURNAL => LogTarget::Journal,
            Some(path) if path.is_absolute() => LogTarget::File(path),
            Some(path) => {
                let reason = format!("{} is neither \"journal\" nor an absolute path", path.display());
                return Err(ConfigError::Observe { key: "security_log.path", reason });
            }
        };
        let rate = self.rate.unwrap_or(RATE);
        if rate == 0 || rate > MOST {
            let reason = format!("{rate} is not from 1 to {MOST}");
            return Err(ConfigError::Observe { key: "security_log.rate", reason });
        }
        let (ports, groups, rules) = (names(self.ports), names(self.groups), names(self.rules));
        Ok(Some(LogChoice {
            target,
            events: self.events.unwrap_or_default(),
            ports,
            groups,
            rules,
            is_policy_whole,
            rate,
        }))
    }
}

/// What is to be looked at, complete.
pub(super) fn complete(
    drops: DropsSettings,
    log: SecurityLogSettings,
    permitted_ethertypes: BTreeSet<u16>,
    source: SourceKind,
) -> Result<Options, ConfigError> {
    let is_policy_whole = source == SourceKind::File;
    let samples = drops.samples.unwrap_or(SAMPLES);
    if samples > MOST {
        let reason = format!("{samples} is not from 0 to {MOST}");
        return Err(ConfigError::Observe { key: "drops.samples", reason });
    }
    Ok(Options { samples, log: log.complete(is_policy_whole)?, permitted_ethertypes })
}

fn names<T: Ord + From<String>>(texts: Option<Vec<String>>) -> BTreeSet<T> {
    texts.into_iter().flatten().map(T::from).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;
    use crate::observe::{Events, LogTarget};

    #[test]
    fn drops_are_sampled_and_nothing_is_logged_unless_it_is_said() {
        let observe = Settings::default().complete().unwrap().observe;
        assert_eq!((observe.samples, observe.log), (10, None));
        let text = "[drops]\nsamples = 0\n[security_log]\npath = \"/var/log/sgflow/security.jsonl\"\n\
                    events = \"drop\"\ngroups = [\"web\"]\n";
        let observe = Settings::parse(text).unwrap().complete().unwrap().observe;
        let log = observe.log.unwrap();
        assert_eq!((observe.samples, log.events, log.rate), (0, Events::Drop, 25));
        assert_eq!(log.target, LogTarget::File("/var/log/sgflow/security.jsonl".into()));
        assert_eq!((log.groups, log.ports.len(), log.rules.len()), (["web".into()].into(), 0, 0));
        let journal = Settings::parse("[security_log]\npath = \"journal\"").unwrap().complete().unwrap();
        assert_eq!(journal.observe.log.unwrap().target, LogTarget::Journal);
    }

    #[test]
    fn what_makes_no_sense_names_its_key() {
        for (text, said) in [
            ("[drops]\nsamples = 20000", "drops.samples: 20000 is not from 0 to 10000"),
            (
                "[security_log]\npath = \"log\"",
                "security_log.path: log is neither \"journal\" nor an absolute path",
            ),
            ("[security_log]\npath = \"/l\"\nrate = 0", "security_log.rate: 0 is not from 1 to 10000"),
        ] {
            assert_eq!(Settings::parse(text).unwrap().complete().unwrap_err().to_string(), said);
        }
        let unknown = Settings::parse("[security_log]\nevents = \"deny\"").unwrap_err();
        assert!(unknown.contains("\"deny\" is unknown; known are accept, drop and all"), "{unknown}");
    }
}
