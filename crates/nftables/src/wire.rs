//! Messages and attributes of `nf_tables.h`.

use nfnetlink::{Attribute, Attributes, Malformed, Message, Request, Subsystem};

use crate::element::{self, Counter, Element};
use crate::expr::Expr;
use crate::name::{ChainId, Family, Name, SetId, TableId};
use crate::rule::{Place, Rule};
use crate::set::{Set, SetData, SetFlags};
use crate::table::{Base, Chain, ChainKind, Hook, Policy, Table};
use crate::value::Value;

/// `enum nf_tables_msg_types`.
pub(crate) mod command {
    pub(crate) const NEW_TABLE: u8 = 0;
    pub(crate) const GET_TABLE: u8 = 1;
    pub(crate) const DELETE_TABLE: u8 = 2;
    pub(crate) const NEW_CHAIN: u8 = 3;
    pub(crate) const GET_CHAIN: u8 = 4;
    pub(crate) const DELETE_CHAIN: u8 = 5;
    pub(crate) const NEW_RULE: u8 = 6;
    pub(crate) const GET_RULE: u8 = 7;
    pub(crate) const DELETE_RULE: u8 = 8;
    pub(crate) const NEW_SET: u8 = 9;
    pub(crate) const GET_SET: u8 = 10;
    pub(crate) const DELETE_SET: u8 = 11;
    pub(crate) const NEW_ELEMENT: u8 = 12;
    pub(crate) const GET_ELEMENT: u8 = 13;
    pub(crate) const DELETE_ELEMENT: u8 = 14;
    pub(crate) const GET_GENERATION: u8 = 16;
}

/// Of all things in a table, its name; and of lists, an entry (`NFTA_*_TABLE`, `NFTA_LIST_ELEM`).
const TABLE: u16 = 1;
const ENTRY: u16 = 1;

/// `NFTA_TABLE_*`.
mod table {
    pub(super) const FLAGS: u16 = 2;
    pub(super) const HANDLE: u16 = 4;
    /// `NFT_TABLE_F_DORMANT`.
    pub(super) const DORMANT: u32 = 1;
}

/// `NFTA_CHAIN_*`.
mod chain {
    pub(super) const HANDLE: u16 = 2;
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const POLICY: u16 = 5;
    pub(super) const KIND: u16 = 7;
    /// `NFTA_HOOK_*`.
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    /// `NF_DROP`, `NF_ACCEPT`.
    pub(super) const DROP: u32 = 0;
    pub(super) const ACCEPT: u32 = 1;
}

/// `NFTA_RULE_*`.
mod rule {
    pub(super) const CHAIN: u16 = 2;
    pub(super) const HANDLE: u16 = 3;
    pub(super) const EXPRESSIONS: u16 = 4;
    pub(super) const POSITION: u16 = 6;
    pub(super) const USER_DATA: u16 = 7;
}

/// `NFTA_SET_*`.
mod set {
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const KEY_TYPE: u16 = 4;
    pub(super) const KEY_LENGTH: u16 = 5;
    pub(super) const DATA_TYPE: u16 = 6;
    pub(super) const DATA_LENGTH: u16 = 7;
    pub(super) const DESCRIPTION: u16 = 9;
    pub(super) const NUMBER: u16 = 10;
    pub(super) const USER_DATA: u16 = 13;
    pub(super) const HANDLE: u16 = 16;
    /// In the description: `NFTA_SET_DESC_*`, `NFTA_SET_FIELD_LEN`.
    pub(super) const SIZE: u16 = 1;
    pub(super) const FIELDS: u16 = 2;
    pub(super) const FIELD_LENGTH: u16 = 1;
    /// `NFT_DATA_VERDICT`.
    pub(super) const VERDICT: u32 = 0xffff_ff00;
}

/// `NFTA_SET_ELEM_LIST_*`.
mod elements {
    pub(super) const SET: u16 = 2;
    pub(super) const ELEMENTS: u16 = 3;
}

/// How long the elements of a message may be; the largest one has three values, or a value and the name of a chain, and fits in what is
/// left of 64 KB.
const ELEMENTS_BYTES: usize = 60_000;

fn request(command: u8, flags: u16, family: Family) -> Request {
    Request::new(Subsystem::Nftables, command, flags, family.number(), 0)
}

/// A command about what is in a table.
fn inside(command: u8, flags: u16, table: &TableId) -> Request {
    let mut request = request(command, flags, table.family);
    request.put_text(TABLE, table.name.as_str());
    request
}

/// Everything of a kind, in all families and tables, or in a table's.
pub(crate) fn dump(command: u8, table: Option<&TableId>) -> Request {
    match table {
        Some(table) => inside(command, Request::DUMP, table),
        None => Request::new(Subsystem::Nftables, command, Request::DUMP, 0, 0),
    }
}

pub(crate) fn dump_rules(chain: &ChainId) -> Request {
    let mut request = dump(command::GET_RULE, Some(&chain.table));
    request.put_text(rule::CHAIN, chain.name.as_str());
    request
}

pub(crate) fn dump_elements(set: &SetId) -> Request {
    let mut request = dump(command::GET_ELEMENT, Some(&set.table));
    request.put_text(elements::SET, set.name.as_str());
    request
}

pub(crate) fn get_set(set: &SetId) -> Request {
    let mut request = inside(command::GET_SET, 0, &set.table);
    request.put_text(set::NAME, set.name.as_str());
    request
}

pub(crate) fn get_generation() -> Request {
    Request::new(Subsystem::Nftables, command::GET_GENERATION, 0, 0, 0)
}

pub(crate) fn new_table(table: &Table) -> Request {
    let mut request = inside(command::NEW_TABLE, Request::CREATE, &table.id);
    request.put_be32(table::FLAGS, if table.is_dormant { table::DORMANT } else { 0 });
    request
}

pub(crate) fn delete_table(table: &TableId) -> Request {
    inside(command::DELETE_TABLE, 0, table)
}

pub(crate) fn new_chain(chain: &Chain) -> Request {
    let mut request = inside(command::NEW_CHAIN, Request::CREATE, &chain.id.table);
    request.put_text(chain::NAME, chain.id.name.as_str());
    if let Some(base) = &chain.base {
        request.nest(chain::HOOK, |hook| {
            hook.put_be32(chain::HOOK_NUMBER, base.hook.0)
                .put_be32(chain::HOOK_PRIORITY, base.priority.cast_unsigned());
        });
        let policy = match base.policy {
            Policy::Drop => chain::DROP,
            Policy::Accept => chain::ACCEPT,
        };
        request.put_be32(chain::POLICY, policy).put_text(chain::KIND, base.kind.as_str());
    }
    request
}

pub(crate) fn delete_chain(chain: &ChainId) -> Request {
    let mut request = inside(command::DELETE_CHAIN, 0, &chain.table);
    request.put_text(chain::NAME, chain.name.as_str());
    request
}

/// `number` tells the sets apart that one batch makes.
pub(crate) fn new_set(set: &Set, number: u32) -> Request {
    let mut request = inside(command::NEW_SET, Request::CREATE, &set.id.table);
    request
        .put_text(set::NAME, set.id.name.as_str())
        .put_be32(set::FLAGS, set.flags.0)
        .put_be32(set::KEY_TYPE, set.key_type)
        .put_be32(set::KEY_LENGTH, set.key_length)
        .put_be32(set::NUMBER, number);
    match set.data {
        None => {}
        Some(SetData::Verdict) => _ = request.put_be32(set::DATA_TYPE, set::VERDICT),
        Some(SetData::Value { data_type, length }) => {
            request.put_be32(set::DATA_TYPE, data_type).put_be32(set::DATA_LENGTH, length);
        }
    }
    request.nest(set::DESCRIPTION, |description| {
        if let Some(size) = set.size {
            description.put_be32(set::SIZE, size);
        }
        if !set.field_lengths.is_empty() {
            description.nest(set::FIELDS, |fields| {
                for length in &set.field_lengths {
                    fields.nest(ENTRY, |field| _ = field.put_be32(set::FIELD_LENGTH, *length));
                }
            });
        }
    });
    if !set.user_data.is_empty() {
        request.put(set::USER_DATA, &set.user_data);
    }
    request
}

pub(crate) fn delete_set(set: &SetId) -> Request {
    let mut request = inside(command::DELETE_SET, 0, &set.table);
    request.put_text(set::NAME, set.name.as_str());
    request
}

/// A message that adds or takes away elements, as many as it holds, of those that come next, and how many these are; none if there are
/// no more.
pub(crate) fn change_elements(
    command: u8,
    set: &SetId,
    from: &mut impl Iterator<Item = Element>,
) -> Option<(Request, usize)> {
    let mut next = Some(from.next()?);
    let is_added = command == command::NEW_ELEMENT;
    let mut request = inside(command, if is_added { Request::CREATE } else { 0 }, &set.table);
    request.put_text(elements::SET, set.name.as_str());
    let begun = request.size();
    let mut count = 0;
    request.nest(elements::ELEMENTS, |list| {
        while let Some(element) = next.take() {
            list.nest(ENTRY, |entry| element.put(entry, is_added));
            count += 1;
            if list.size() - begun < ELEMENTS_BYTES {
                next = from.next();
            }
        }
    });
    Some((request, count))
}

/// A rule with its place, or in the place of the one with a handle.
pub(crate) fn new_rule(rule: &Rule, place: Place) -> Request {
    let flags = match place {
        Place::First | Place::Before(_) => Request::CREATE,
        Place::Last | Place::Behind(_) => Request::CREATE | Request::APPEND,
    };
    let mut request = about_rules(command::NEW_RULE, flags, &rule.chain);
    if let Place::Before(handle) | Place::Behind(handle) = place {
        request.put_be64(rule::POSITION, handle);
    }
    put_rule(&mut request, rule);
    request
}

pub(crate) fn replace_rule(handle: u64, rule: &Rule) -> Request {
    let mut request = about_rules(command::NEW_RULE, Request::REPLACE, &rule.chain);
    request.put_be64(rule::HANDLE, handle);
    put_rule(&mut request, rule);
    request
}

/// The rule with a handle, or all of the chain's.
pub(crate) fn delete_rule(chain: &ChainId, handle: Option<u64>) -> Request {
    let mut request = about_rules(command::DELETE_RULE, 0, chain);
    if let Some(handle) = handle {
        request.put_be64(rule::HANDLE, handle);
    }
    request
}

fn about_rules(command: u8, flags: u16, chain: &ChainId) -> Request {
    let mut request = inside(command, flags, &chain.table);
    request.put_text(rule::CHAIN, chain.name.as_str());
    request
}

fn put_rule(request: &mut Request, rule: &Rule) {
    request.nest(rule::EXPRESSIONS, |list| {
        for expression in &rule.expressions {
            list.nest(ENTRY, |entry| expression.put(entry));
        }
    });
    if !rule.user_data.is_empty() {
        request.put(rule::USER_DATA, &rule.user_data);
    }
}

/// A name among attributes; `lack` says what is wrong without it.
pub(crate) fn text(attributes: Attributes<'_>, kind: u16, lack: &'static str) -> Result<Name, Malformed> {
    let name = attributes.find(kind)?.ok_or(Malformed(lack))?.text()?;
    name.parse().map_err(|_| Malformed("a name that is none"))
}

/// The table that a message is about, and its attributes; none if it is of a family that is not known here.
fn about<'m>(message: &Message<'m>) -> Result<Option<(TableId, Attributes<'m>)>, Malformed> {
    let (family, attributes) = message.netfilter()?;
    let Some(family) = Family::of_number(family) else { return Ok(None) };
    let name = text(attributes, TABLE, "something of no table")?;
    Ok(Some((TableId { family, name }, attributes)))
}

fn handle(attributes: Attributes<'_>, kind: u16) -> Result<u64, Malformed> {
    attributes.find(kind)?.map_or(Ok(0), Attribute::be64)
}

fn octets(attributes: Attributes<'_>, kind: u16) -> Result<Vec<u8>, Malformed> {
    Ok(attributes.find(kind)?.map(|attribute| attribute.value.to_vec()).unwrap_or_default())
}

pub(crate) fn table(message: &Message<'_>) -> Result<Option<Table>, Malformed> {
    let Some((id, attributes)) = about(message)? else { return Ok(None) };
    let flags = attributes.find(table::FLAGS)?.map_or(Ok(0), Attribute::be32)?;
    let is_dormant = flags & table::DORMANT != 0;
    Ok(Some(Table { id, is_dormant, handle: handle(attributes, table::HANDLE)? }))
}

pub(crate) fn chain(message: &Message<'_>) -> Result<Option<Chain>, Malformed> {
    let Some((table, attributes)) = about(message)? else { return Ok(None) };
    let name = text(attributes, chain::NAME, "a chain without name")?;
    let base = match attributes.find(chain::HOOK)? {
        None => None,
        Some(hook) => Some(base(attributes, hook.nested())?),
    };
    Ok(Some(Chain { id: ChainId { table, name }, base, handle: handle(attributes, chain::HANDLE)? }))
}

fn base(attributes: Attributes<'_>, hook: Attributes<'_>) -> Result<Base, Malformed> {
    let of_hook = |kind| hook.find(kind)?.ok_or(Malformed("a chain at no hook"))?.be32();
    let kind = attributes.find(chain::KIND)?.ok_or(Malformed("a base chain of no type"))?.text()?;
    let policy = attributes.find(chain::POLICY)?.map_or(Ok(chain::ACCEPT), Attribute::be32)?;
    Ok(Base {
        kind: ChainKind::of(kind),
        hook: Hook(of_hook(chain::HOOK_NUMBER)?),
        priority: of_hook(chain::HOOK_PRIORITY)?.cast_signed(),
        policy: match policy {
            chain::DROP => Policy::Drop,
            chain::ACCEPT => Policy::Accept,
            _ => return Err(Malformed("a chain with a policy that there is not")),
        },
    })
}

pub(crate) fn set(message: &Message<'_>) -> Result<Option<Set>, Malformed> {
    let Some((table, attributes)) = about(message)? else { return Ok(None) };
    let optional = |kind| attributes.find(kind)?.map(Attribute::be32).transpose();
    let number = |kind| optional(kind).map(Option::unwrap_or_default);
    let flags = SetFlags(number(set::FLAGS)?);
    let data = match optional(set::DATA_TYPE)? {
        _ if !flags.has(SetFlags::MAP) => None,
        Some(set::VERDICT) => Some(SetData::Verdict),
        data_type => {
            let length = number(set::DATA_LENGTH)?;
            Some(SetData::Value { data_type: data_type.unwrap_or_default(), length })
        }
    };
    let (mut size, mut field_lengths) = (None, Vec::new());
    if let Some(description) = attributes.find(set::DESCRIPTION)? {
        size = description.nested().find(set::SIZE)?.map(Attribute::be32).transpose()?;
        for field in description.nested().find(set::FIELDS)?.into_iter().flat_map(Attribute::nested) {
            let length =
                field?.nested().find(set::FIELD_LENGTH)?.ok_or(Malformed("a field without length"))?;
            field_lengths.push(length.be32()?);
        }
    }
    Ok(Some(Set {
        id: SetId { table, name: text(attributes, set::NAME, "a set without name")? },
        flags,
        key_type: number(set::KEY_TYPE)?,
        key_length: number(set::KEY_LENGTH)?,
        data,
        field_lengths,
        size,
        user_data: octets(attributes, set::USER_DATA)?,
        handle: handle(attributes, set::HANDLE)?,
    }))
}

/// Gives `each` the elements that a message tells of.
pub(crate) fn elements(message: &Message<'_>, mut each: impl FnMut(Element)) -> Result<(), Malformed> {
    let (_, attributes) = message.netfilter()?;
    for element in attributes.find(elements::ELEMENTS)?.into_iter().flat_map(Attribute::nested) {
        each(Element::read(element?)?);
    }
    Ok(())
}

/// Gives `each` what the elements have counted that a message tells of.
pub(crate) fn counters(message: &Message<'_>, mut each: impl FnMut(Value, Counter)) -> Result<(), Malformed> {
    let (_, attributes) = message.netfilter()?;
    for element in attributes.find(elements::ELEMENTS)?.into_iter().flat_map(Attribute::nested) {
        if let Some((key, counter)) = element::counter(element?)? {
            each(key, counter);
        }
    }
    Ok(())
}

pub(crate) fn rule(message: &Message<'_>) -> Result<Option<Rule>, Malformed> {
    let Some((table, attributes)) = about(message)? else { return Ok(None) };
    let list = attributes.find(rule::EXPRESSIONS)?.into_iter().flat_map(Attribute::nested);
    Ok(Some(Rule {
        chain: ChainId { table, name: text(attributes, rule::CHAIN, "a rule of no chain")? },
        expressions: list.map(|expression| Expr::read(expression?.nested())).collect::<Result<_, _>>()?,
        user_data: octets(attributes, rule::USER_DATA)?,
        handle: handle(attributes, rule::HANDLE)?,
    }))
}

pub(crate) fn generation(message: &Message<'_>) -> Result<u32, Malformed> {
    let (_, attributes) = message.netfilter()?;
    attributes.find(1)?.ok_or(Malformed("a generation without number"))?.be32()
}

/// Of the messages that a batch may hold: what they were to do, in words.
pub(crate) fn action(message: &Message<'_>) -> Result<String, Malformed> {
    let of_table = |attributes| text(attributes, TABLE, "something of no table");
    let (family, attributes) = message.netfilter()?;
    let family = Family::of_number(family).ok_or(Malformed("a family that there is not"))?;
    let table = TableId { family, name: of_table(attributes)? };
    let named = |kind| text(attributes, kind, "something without name");
    Ok(match message.command(Subsystem::Nftables).unwrap_or(u8::MAX) {
        command::NEW_TABLE => format!("add table {table}"),
        command::DELETE_TABLE => format!("delete table {table}"),
        command::NEW_CHAIN => format!("add chain {table} {}", named(chain::NAME)?),
        command::DELETE_CHAIN => format!("delete chain {table} {}", named(chain::NAME)?),
        command::NEW_SET => format!("add set {table} {}", named(set::NAME)?),
        command::DELETE_SET => format!("delete set {table} {}", named(set::NAME)?),
        command::NEW_ELEMENT => format!("add elements to {table} {}", named(elements::SET)?),
        command::DELETE_ELEMENT => format!("delete elements from {table} {}", named(elements::SET)?),
        other => {
            let chain = format!("{table} {}", named(rule::CHAIN)?);
            match (other == command::NEW_RULE, attributes.find(rule::HANDLE)?) {
                (true, None) => format!("add a rule to {chain}"),
                (true, Some(handle)) => format!("replace rule {} of {chain}", handle.be64()?),
                (false, Some(handle)) => format!("delete rule {} of {chain}", handle.be64()?),
                (false, None) => format!("flush chain {chain}"),
            }
        }
    })
}

/// Which of a message's expressions or elements lies so many bytes behind the message's first.
pub(crate) fn part_at(message: &Message<'_>, offset: usize) -> Result<Option<usize>, Malformed> {
    let list = match message.command(Subsystem::Nftables) {
        Some(command::NEW_RULE) => rule::EXPRESSIONS,
        Some(command::NEW_ELEMENT | command::DELETE_ELEMENT) => elements::ELEMENTS,
        _ => return Ok(None),
    };
    // Of an attribute, and of a message with netfilter's header.
    let (header, mut at) = (4, 20);
    for attribute in message.netfilter()?.1 {
        let attribute = attribute?;
        let end = at + header + attribute.value.len().next_multiple_of(4);
        if attribute.kind == list && offset < end {
            at += header;
            for (number, entry) in attribute.nested().enumerate() {
                let end = at + header + entry?.value.len().next_multiple_of(4);
                if (at..end).contains(&offset) {
                    return Ok(Some(number));
                }
                at = end;
            }
            return Ok(None);
        }
        at = end;
    }
    Ok(None)
}
