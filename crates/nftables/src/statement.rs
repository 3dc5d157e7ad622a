//! Rules as one thinks of them: what is looked at, what it must be, what becomes of it. Each statement stands for the expressions that
//! nft(8) makes of the same words, so that it prints them as such.

use crate::expr::{Comparison, CtKey, Direction, Expr, Field, MetaKey, Register};
use crate::name::Name;
use crate::value::{Value, Verdict};

/// What a rule looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selector {
    /// What is known of the packet.
    Meta(MetaKey),
    /// Bytes of the packet. That it has such a header must have been found out before: bytes are bytes.
    Payload(Field),
    /// What is known of the packet's connection.
    Ct(CtKey),
    /// What is known of a direction of it.
    CtOf(Direction, CtKey),
    /// Whether the packet has IPv6's header of fragments: one byte, 1 or 0.
    HasFragmentHeader,
    /// Bytes of IPv6's header of fragments.
    FragmentHeader {
        /// The first byte: at 2 are offset and flag of more.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
}

/// `NEXTHDR_FRAGMENT` of include/net/ipv6.h.
const FRAGMENT: u8 = 44;
/// No key that is not named here is longer.
const LONGEST_KEY: u32 = 16;

impl Selector {
    fn load(self, to: Register) -> Expr {
        match self {
            Selector::Meta(key) => Expr::Meta { key, to },
            Selector::Payload(field) => Expr::Payload { field, to },
            Selector::Ct(key) => Expr::Ct { key, direction: None, to },
            Selector::CtOf(direction, key) => Expr::Ct { key, direction: Some(direction), to },
            Selector::HasFragmentHeader => {
                Expr::ExtensionHeader { header: FRAGMENT, offset: 0, length: 1, is_presence: true, to }
            }
            Selector::FragmentHeader { offset, length } => {
                Expr::ExtensionHeader { header: FRAGMENT, offset, length, is_presence: false, to }
            }
        }
    }

    /// How many registers of four bytes it fills.
    fn words(self) -> u32 {
        let length = match self {
            Selector::Meta(key) => key.length().unwrap_or(LONGEST_KEY),
            Selector::Payload(field) => field.length,
            Selector::Ct(key) | Selector::CtOf(_, key) => key.length().unwrap_or(LONGEST_KEY),
            Selector::HasFragmentHeader => 1,
            Selector::FragmentHeader { length, .. } => length,
        };
        length.div_ceil(4)
    }
}

/// What a rule sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// What is known of the packet: its mark, whom it is for.
    Meta(MetaKey),
    /// What is known of its connection: its mark, and before it is tracked, its zone.
    Ct(CtKey),
}

impl Target {
    fn store(self, from: Register) -> Expr {
        match self {
            Target::Meta(key) => Expr::SetMeta { key, from },
            Target::Ct(key) => Expr::SetCt { key, direction: None, from },
        }
    }
}

/// The statements of a rule, one after the other: the first that does not hold ends the rule. What is looked at in a set is no longer
/// than all registers together, 64 bytes: more is a caller's mistake, and panics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Statements(Vec<Expr>);

impl Statements {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more expression.
    #[must_use]
    pub fn with(mut self, expression: Expr) -> Self {
        self.0.push(expression);
        self
    }

    /// It is this.
    #[must_use]
    pub fn is(self, what: Selector, value: impl Into<Value>) -> Self {
        self.compared(what, Comparison::Equal, value)
    }

    /// It is anything but this.
    #[must_use]
    pub fn is_not(self, what: Selector, value: impl Into<Value>) -> Self {
        self.compared(what, Comparison::NotEqual, value)
    }

    /// It is to the value as `how` says; other than as equal only numbers of packets can be compared, not the kernel's own.
    #[must_use]
    pub fn compared(self, what: Selector, how: Comparison, with: impl Into<Value>) -> Self {
        let from = Register::FIRST;
        self.with(what.load(from)).with(Expr::Compare { from, how, with: with.into() })
    }

    /// It lies between these two, both included; only for numbers of packets.
    #[must_use]
    pub fn lies_between(self, what: Selector, first: impl Into<Value>, last: impl Into<Value>) -> Self {
        let from = Register::FIRST;
        self.with(what.load(from))
            .with(Expr::Compare { from, how: Comparison::GreaterOrEqual, with: first.into() })
            .with(Expr::Compare { from, how: Comparison::LessOrEqual, with: last.into() })
    }

    /// Its bits under the mask are to the value as `how` says.
    #[must_use]
    pub fn masked(
        self,
        what: Selector,
        mask: impl Into<Value>,
        how: Comparison,
        with: impl Into<Value>,
    ) -> Self {
        let (from, mask) = (Register::FIRST, mask.into());
        let xor = Value::from(vec![0; mask.octets().len()].as_slice());
        self.with(what.load(from)).with(Expr::Bitwise { from, to: from, mask, xor }).with(Expr::Compare {
            from,
            how,
            with: with.into(),
        })
    }

    /// It has one of these bits: for `ct state`, for instance.
    #[must_use]
    pub fn has_any(self, what: Selector, bits: impl Into<Value>) -> Self {
        let bits = bits.into();
        let none = Value::from(vec![0; bits.octets().len()].as_slice());
        self.masked(what, bits, Comparison::NotEqual, none)
    }

    /// What is looked at is, concatenated, in a set of the rule's table.
    #[must_use]
    pub fn is_in(self, what: &[Selector], set: &Name) -> Self {
        self.looked_up(what, set, None, false)
    }

    /// What is looked at is, concatenated, not in a set of the rule's table.
    #[must_use]
    pub fn is_not_in(self, what: &[Selector], set: &Name) -> Self {
        self.looked_up(what, set, None, true)
    }

    /// A verdict map decides by what is looked at, concatenated; if that is not in it, the rule ends.
    #[must_use]
    pub fn decide_by(self, what: &[Selector], map: &Name) -> Self {
        self.looked_up(what, map, Some(Register::VERDICT), false)
    }

    /// Sets it to what a map says of what is looked at, concatenated; if that is not in it, the rule ends.
    #[must_use]
    pub fn set_by(self, target: Target, what: &[Selector], map: &Name) -> Self {
        self.looked_up(what, map, Some(Register::FIRST), false).with(target.store(Register::FIRST))
    }

    /// Sets it.
    #[must_use]
    pub fn set(self, target: Target, value: impl Into<Value>) -> Self {
        let to = Register::FIRST;
        self.with(Expr::Immediate { to, data: value.into().into() }).with(target.store(to))
    }

    /// Counts what comes so far.
    #[must_use]
    pub fn counted(self) -> Self {
        self.with(Expr::counter())
    }

    /// Decides.
    #[must_use]
    pub fn decide(self, verdict: Verdict) -> Self {
        self.with(Expr::verdict(verdict))
    }

    fn looked_up(mut self, what: &[Selector], set: &Name, to: Option<Register>, is_inverted: bool) -> Self {
        let mut word = 0;
        for part in what {
            let register = Register::at(word).expect("a key is no longer than the registers, 64 bytes");
            self.0.push(part.load(register));
            word += part.words();
        }
        self.with(Expr::Lookup { set: set.clone(), from: Register::FIRST, to, is_inverted })
    }
}

impl From<Statements> for Vec<Expr> {
    fn from(statements: Statements) -> Self {
        statements.0
    }
}
