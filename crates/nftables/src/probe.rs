//! What the running kernel cannot do.

use nfnetlink::{Malformed, Subsystem};

use crate::batch::Batch;
use crate::error::{Error, Refused};
use crate::expr::Expr;
use crate::kernel::Nftables;
use crate::name::{Family, TableId};
use crate::rule::{Place, Rule};
use crate::set::Set;
use crate::table::{Chain, Table};

/// Something that rules are to be made of.
#[derive(Clone, Debug)]
pub struct Need {
    /// What one calls it.
    pub name: String,
    /// In tables of which family.
    pub family: Family,
    /// Sets and maps that the kernel shall take, also those that the expressions look into; of which table does not matter.
    pub sets: Vec<Set>,
    /// Expressions that it shall take in a rule; without any only the sets are tried.
    pub expressions: Vec<Expr>,
}

/// A [`Need`] that the kernel does not meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lack {
    /// Which of the needs, counted from 0.
    pub need: usize,
    /// What the kernel refused.
    pub refused: Refused,
}

/// Never committed, so that it does not matter if somebody has a table of that name.
const TABLE: &str = "probe";
const CHAIN: &str = "probe";

impl Nftables {
    /// Tries which of these needs the kernel does not meet, the first refusal of each. Each is tried in a batch that is refused in any
    /// case, so that nothing comes of it. What the kernel looks at only when it commits, that is, whether an expression suits the hook
    /// of a base chain, is not seen.
    ///
    /// # Errors
    /// There are no tables at all (of a family), or no right to make them.
    pub fn probe(&mut self, needs: &[Need]) -> Result<Vec<Lack>, Error> {
        let mut lacks = Vec::new();
        for (need, of) in needs.iter().enumerate() {
            let refused = self.refused(of)?;
            lacks.extend(refused.map(|refused| Lack { need, refused }));
        }
        Ok(lacks)
    }

    fn refused(&mut self, need: &Need) -> Result<Option<Refused>, Error> {
        let name = TABLE.parse().expect("it is a name");
        let table = TableId { family: need.family, name };
        let chain = table.chain(CHAIN).expect("it is a name");
        let mut batch = Batch::new();
        batch.add_table(&Table::new(table.clone())).add_chain(&Chain::regular(chain.clone()));
        for set in &need.sets {
            let mut set = set.clone();
            set.id.table = table.clone();
            batch.add_set(&set);
        }
        if !need.expressions.is_empty() {
            batch.add_rule(&Rule::new(chain.clone(), need.expressions.clone()), Place::Last);
        }
        // There is no such rule: the kernel looks at all of the batch, and then does nothing of it.
        let tried = batch.len();
        batch.delete_rule(&chain, u64::MAX);
        let refusals = self.socket.transact(Subsystem::Nftables, None, batch.requests())?;
        let first = refusals.first().ok_or(Malformed("a batch was done that cannot be done"));
        let refused = first.and_then(|first| batch.refused(first)).map_err(nfnetlink::Error::from)?;
        match refused.operation {
            operation if operation == tried => Ok(None),
            // The table itself, or the chain.
            0 | 1 => Err(Error::Refused(refused)),
            _ => Ok(Some(refused)),
        }
    }
}
