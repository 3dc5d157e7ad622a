//! Verdicts as text: `deliver p-2 by r1; ingress p-3 drop no-rule`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use policy::evaluator::{Basis, DropReason};
use policy::{PortId, RuleId};

/// Something that is no verdict, with what is wrong about it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct VerdictError(String);

/// What is to become of a frame.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expected {
    /// What the sender's port says: dropped for a reason, or accepted on some ground. None where nothing is said of it: it
    /// accepts, or the frame comes from the network.
    pub sender: Option<Said>,
    /// Who receives the frame, ports by id and network ports by the name of their interface, and on what ground.
    pub delivered: BTreeMap<String, Ground>,
    /// The ports that the frame comes to and that drop it.
    pub dropped: BTreeMap<PortId, DropReason>,
}

/// One port's word on a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// It passes.
    Accept(Ground),
    /// It does not.
    Drop(DropReason),
}

/// On what ground a frame passes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ground {
    /// Nothing is said of it.
    Any,
    /// These rules admit it, and no others.
    Rules(BTreeSet<RuleId>),
    /// Not by rules.
    Basis(Basis),
}

impl Expected {
    /// Reads the verdict of one frame: clauses, with a semicolon between two.
    ///
    /// ```text
    /// egress drop REASON
    /// egress by RULE …            egress as BASIS
    /// deliver NAME …  [by RULE … | as BASIS]
    /// deliver nowhere
    /// ingress PORT drop REASON
    /// ```
    ///
    /// # Errors
    /// The text is no verdict, or says two things of one port.
    pub fn parse(text: &str) -> Result<Self, VerdictError> {
        let mut expected = Self::default();
        let mut nowhere = false;
        for clause in text.split(';') {
            let words: Vec<&str> = clause.split_whitespace().collect();
            match words.as_slice() {
                ["egress", "drop", reason] => expected.say_of_sender(Said::Drop(parse_reason(reason)?))?,
                ["egress", ground @ ..] if !ground.is_empty() => {
                    expected.say_of_sender(Said::Accept(parse_ground(ground)?))?;
                }
                ["deliver", "nowhere"] => nowhere = true,
                ["deliver", names @ ..] if !names.is_empty() => expected.deliver(names)?,
                ["ingress", port, "drop", reason] => {
                    let port = PortId::from(*port);
                    if expected.dropped.insert(port.clone(), parse_reason(reason)?).is_some() {
                        return Err(VerdictError(format!("{port} drops the frame twice")));
                    }
                }
                _ => return Err(VerdictError(format!("{:?} is no clause of a verdict", clause.trim()))),
            }
        }
        expected.check(nowhere)?;
        Ok(expected)
    }

    /// Whether the sender's port drops the frame.
    pub fn is_dropped_by_sender(&self) -> bool {
        matches!(self.sender, Some(Said::Drop(_)))
    }

    fn say_of_sender(&mut self, said: Said) -> Result<(), VerdictError> {
        match self.sender.replace(said) {
            None => Ok(()),
            Some(_) => Err(VerdictError("two clauses begin with egress".to_owned())),
        }
    }

    fn deliver(&mut self, words: &[&str]) -> Result<(), VerdictError> {
        let end = words.iter().position(|word| ["by", "as"].contains(word)).unwrap_or(words.len());
        let (names, ground) = words.split_at(end);
        let ground = if ground.is_empty() { Ground::Any } else { parse_ground(ground)? };
        for name in names {
            if self.delivered.insert((*name).to_owned(), ground.clone()).is_some() {
                return Err(VerdictError(format!("{name} receives the frame twice")));
            }
        }
        Ok(())
    }

    fn check(&self, nowhere: bool) -> Result<(), VerdictError> {
        let silent = self.delivered.is_empty() && self.dropped.is_empty();
        let problem = match (self.is_dropped_by_sender(), nowhere) {
            (true, true) => "a frame that is dropped at egress is not delivered anyway",
            (true, false) if !silent => "a frame that is dropped at egress comes to no other port",
            (false, true) if !self.delivered.is_empty() => "nowhere and somewhere",
            (false, false) if silent => "who receives the frame? (deliver …, or deliver nowhere)",
            _ => return Ok(()),
        };
        Err(VerdictError(problem.to_owned()))
    }
}

fn parse_reason(word: &str) -> Result<DropReason, VerdictError> {
    word.parse().map_err(|_| VerdictError(format!("{word:?} is no reason to drop a frame")))
}

fn parse_ground(words: &[&str]) -> Result<Ground, VerdictError> {
    match words {
        ["by", rules @ ..] if !rules.is_empty() => {
            Ok(Ground::Rules(rules.iter().map(|rule| RuleId::from(*rule)).collect()))
        }
        ["as", basis] => {
            let basis = basis
                .parse()
                .map_err(|_| VerdictError(format!("{basis:?} is no ground to accept a frame")))?;
            Ok(Ground::Basis(basis))
        }
        _ => Err(VerdictError(format!("{:?} is no ground to accept a frame", words.join(" ")))),
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut clauses = Vec::new();
        match &self.sender {
            None => {}
            Some(Said::Drop(reason)) => clauses.push(format!("egress drop {reason}")),
            Some(Said::Accept(ground)) => clauses.push(format!("egress{ground}")),
        }
        for (name, ground) in &self.delivered {
            clauses.push(format!("deliver {name}{ground}"));
        }
        if self.delivered.is_empty() && !self.is_dropped_by_sender() {
            clauses.push("deliver nowhere".to_owned());
        }
        clauses.extend(self.dropped.iter().map(|(port, reason)| format!("ingress {port} drop {reason}")));
        f.write_str(&clauses.join("; "))
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Rules(rules) => rules.iter().try_fold((), |(), rule| {
                let word = if Some(rule) == rules.first() { " by" } else { "" };
                write!(f, "{word} {rule}")
            }),
            Self::Basis(basis) => write!(f, " as {basis}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "egress drop dhcp-server",
            "deliver nowhere",
            "egress by r0; deliver p-2 by r1 r2; deliver uplink",
            "egress as dhcp; deliver nowhere; ingress p-3 drop no-rule",
        ] {
            assert_eq!(Expected::parse(text).unwrap().to_string(), text);
        }
        let names = Expected::parse("deliver p-2 p-3 by r1; ingress p-4 drop ct-invalid").unwrap();
        assert_eq!(names.to_string(), "deliver p-2 by r1; deliver p-3 by r1; ingress p-4 drop ct-invalid");
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for text in [
            "",
            "accept",
            "egress drop spoofed",
            "egress drop vlan; deliver p-1",
            "egress drop vlan; egress drop vlan",
            "deliver p-1; deliver p-1",
            "deliver nowhere; deliver p-1",
            "deliver p-1 by",
            "deliver p-1 as magic",
            "ingress p-1 drop no-rule; ingress p-1 drop no-rule",
            "egress by r1",
        ] {
            assert!(Expected::parse(text).is_err(), "{text:?}");
        }
    }
}
