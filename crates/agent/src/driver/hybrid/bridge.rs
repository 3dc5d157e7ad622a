//! The bridge family's table as the kernel has it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use hybrid::bridge::{Element, RULESET};

use super::iptables::Error;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    wanted: BTreeSet<Element>,
    changes: BTreeMap<Element, bool>,
    is_there: bool,
}

impl Bridge {
    /// Nothing is there, and shall be but what does not depend on ports.
    pub(super) fn new(permitted_ethertypes: &BTreeSet<u16>) -> Self {
        Bridge { wanted: hybrid::bridge::permitted(permitted_ethertypes).collect(), ..Self::default() }
    }

    /// An element shall be there, or not.
    pub(super) fn want(&mut self, element: Element, is_wanted: bool) {
        match is_wanted {
            true => self.wanted.insert(element.clone()),
            false => self.wanted.remove(&element),
        };
        self.changes.insert(element, is_wanted);
    }

    /// Whether the kernel's table is known to be otherwise than it shall be.
    pub(super) fn is_to_be_changed(&self) -> bool {
        !self.is_there || !self.changes.is_empty()
    }

    /// Makes the kernel's table as it shall be, in one transaction; says how many elements came and went.
    ///
    /// # Errors
    /// The kernel refuses, and keeps what it has.
    pub(super) fn put_in_force(&mut self) -> Result<[usize; 2], Error> {
        let mut text = String::new();
        if self.is_there {
            for (element, _) in self.changes.iter().filter(|(_, is_wanted)| !**is_wanted) {
                _ = writeln!(
                    text,
                    "delete element {} sgflow {} {{ {element} }}",
                    element.family, element.set
                );
            }
            for (element, _) in self.changes.iter().filter(|(_, is_wanted)| **is_wanted) {
                _ = writeln!(text, "add element {} sgflow {} {{ {element} }}", element.family, element.set);
            }
        } else {
            text.push_str("add table bridge sgflow\ndelete table bridge sgflow\nadd table inet sgflow\ndelete table inet sgflow\n");
            text.push_str(RULESET);
            for element in &self.wanted {
                _ = writeln!(text, "add element {} sgflow {} {{ {element} }}", element.family, element.set);
            }
        }
        nft(&text)?;
        self.is_there = true;
        let changes = std::mem::take(&mut self.changes);
        let added = changes.values().filter(|is_wanted| **is_wanted).count();
        Ok([added, changes.len() - added])
    }
}

fn nft(text: &str) -> Result<(), Error> {
    let tool = "nft".to_owned();
    let failed = |reason| Error::Run { tool: "nft".to_owned(), reason };
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(Error::Refused { tool, message: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
        }
    }
}
