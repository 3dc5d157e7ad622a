//! The rules that sample ([`hybrid::samples`]), kept beside what enforces and behind it: where they cannot be had nothing is seen, and nothing
//! else happens.
//!
//! As with what enforces, a chain is named after their text and what nft(8) made of it, so that a restart finds them and asks nft nothing.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hybrid::admitted::{self, Admitted};
use hybrid::bridge::{Element, Family};
use hybrid::drops::reasons;
use hybrid::samples::{CHAIN, Samples, TABLE};
use nftables::{Batch, Chain, ChainId, Nftables, SetId, TableId, Value};
use reconcile::Tracker;
use tracing::warn;

use super::tables::{MADE, chain_id, nft};
use super::{Failure, encode};

/// How soon what failed is tried again: each time is a program started.
const RETRY: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SampleRules {
    nft: Nftables,
    families: &'static [Family],
    samples: Samples,
    text: String,
    /// Whose connections are sampled where not everybody's are.
    chosen: Tracker<Value, ()>,
    /// It is known that the kernel samples as it was made to, and whose connections.
    is_known: bool,
    trouble: Option<(String, Instant)>,
}

impl SampleRules {
    /// Nothing is known. These families' drops may be sampled.
    ///
    /// # Errors
    /// There is no netlink, or no right to use it.
    pub(super) fn open(families: &'static [Family], samples: Samples) -> Result<Self, nftables::Error> {
        Ok(SampleRules {
            nft: Nftables::open()?,
            families,
            text: samples.text(families),
            samples,
            chosen: Tracker::new(),
            is_known: false,
            trouble: None,
        })
    }

    /// What of admitted connections is sampled.
    pub(super) fn admitted(&self) -> Option<&Admitted> {
        self.samples.admitted.as_ref()
    }

    /// A port's connections are sampled, or not any more.
    pub(super) fn choose(&mut self, element: &Element, is_chosen: bool) {
        let ((key, _), _) = encode::element(element);
        match is_chosen {
            true => self.chosen.want(key, ()),
            false => self.chosen.unwant(key),
        }
    }

    /// Somebody else may have changed something.
    pub(super) fn doubt(&mut self) {
        self.is_known = false;
    }

    /// Why nothing is sampled that shall be.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// Makes the kernel sample as it shall; whether something was changed. What enforces must be there.
    pub(super) fn put_in_force(&mut self) -> bool {
        if self.trouble.as_ref().is_some_and(|(_, since)| since.elapsed() < RETRY) {
            return false;
        }
        let done = self.try_to();
        if let Err(failure) = &done {
            warn!(%failure, "what is dropped and admitted is not sampled");
            self.is_known = false;
        }
        self.trouble = done.as_ref().err().map(|failure| (failure.to_string(), Instant::now()));
        done.unwrap_or(true)
    }

    fn try_to(&mut self) -> Result<bool, Failure> {
        let mut is_changed = false;
        if !self.is_known {
            if !self.is_made()? {
                nft(&self.text)?;
                is_changed = true;
                if let Some(made) = self.made()? {
                    let mut batch = Batch::new();
                    batch.add_chain(&Chain::regular(self.chain(&made)));
                    self.nft.commit(&batch)?;
                }
            }
            let chosen = self.read_chosen()?;
            self.chosen.replace_actual(chosen.into_iter().map(|key| (key, ())));
            self.is_known = true;
        }
        if !self.chosen.is_converged() {
            let changes = self.chosen.pending();
            let mut batch = Batch::new();
            for change in &changes {
                let element = [nftables::Element::key(change.key().clone())];
                match change.new_value() {
                    Some(()) => batch.add_elements(&chosen(), element),
                    None => batch.delete_elements(&chosen(), element),
                };
            }
            self.nft.commit(&batch)?;
            self.chosen.confirm(changes);
            is_changed = true;
        }
        Ok(is_changed)
    }

    /// Whether the kernel samples as it was made to.
    fn is_made(&mut self) -> Result<bool, Failure> {
        let made = self.made()?;
        if self.samples.is_none() {
            return Ok(made.is_none());
        }
        let chains = self.nft.chains(&table())?;
        Ok(made.is_some_and(|made| chains.iter().any(|chain| chain.id.name.as_str() == made)))
    }

    /// The name of the chain that says of what text these rules were made, and that they are as they were then; none where nothing samples.
    fn made(&mut self) -> Result<Option<String>, Failure> {
        let mut said = self.text.clone();
        let mut is_any = self.nft.tables()?.iter().any(|held| held.id == table());
        for chain in self.nft.chains(&table())? {
            if !chain.id.name.as_str().starts_with(MADE) {
                _ = write!(said, "{} {:?}", chain.id.name, chain.base);
            }
        }
        let mut rules = self.nft.rules_of_table(&table())?;
        for family in self.families {
            for (reason, _) in reasons(*family) {
                rules.extend(self.nft.rules(&chain_id(*family, &format!("{CHAIN}{reason}")))?);
            }
        }
        for rule in rules {
            is_any = true;
            _ = write!(said, "{} {:?}", rule.chain.name, rule.expressions);
        }
        Ok(is_any.then(|| format!("{MADE}{}", hybrid::digest(&said))))
    }

    fn read_chosen(&mut self) -> Result<Vec<Value>, Failure> {
        if self.samples.admitted.as_ref().is_none_or(|admitted| admitted.chosen.is_none()) {
            return Ok(Vec::new());
        }
        Ok(self.nft.elements(&chosen())?.into_iter().map(|element| element.key).collect())
    }

    fn chain(&self, name: &str) -> ChainId {
        table().chain(name).expect("a short name")
    }
}

/// The table of what only looks.
pub(super) fn table() -> TableId {
    TableId { family: nftables::Family::Inet, name: TABLE.parse().expect("a short name") }
}

fn chosen() -> SetId {
    table().set(admitted::CHOSEN).expect("a short name")
}
