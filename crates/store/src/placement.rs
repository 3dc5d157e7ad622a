//! In which row of its group a member is to stand.
//!
//! One that is there stays where it is; one that comes stands in the first row with room, in a new one if there is none. So small groups are one row, and a change
//! touches a row of a bounded size. A row of Members without a member goes; what a row has more than it may have moves to others, in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{Atom, Row, RowError};

use crate::content::MemberText;
use crate::group_rows::{GroupRows, holds};
use crate::member_text::Family;

/// What changes in the rows of a group.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// Its row of Security_Group, which may be to be made.
    pub(crate) head: Place<'a>,
    /// Its rows of Members.
    pub(crate) parts: Vec<Place<'a>>,
    /// Something changes that is no member: a row has too many, or none.
    pub(crate) moves: bool,
}

/// A row, and what comes to it and goes from it.
#[derive(Debug, Default)]
pub(crate) struct Place<'a> {
    /// None: to be made.
    pub(crate) row: Option<&'a Row>,
    /// Its number among the rows of Members.
    pub(crate) part: i64,
    /// By family.
    pub(crate) gone: [BTreeSet<String>; 2],
    /// By family.
    pub(crate) come: [BTreeSet<String>; 2],
    held: [usize; 2],
}

impl<'a> Place<'a> {
    fn of(row: &'a Row, part: i64) -> Result<Self, RowError> {
        let mut place = Place { row: Some(row), part, ..Place::default() };
        for family in Family::BOTH {
            place.held[family.place()] = row.datum(family.column())?.len();
        }
        Ok(place)
    }

    fn holds(&self, family: Family, member: &Atom) -> bool {
        self.row.is_some_and(|row| holds(row, family, member))
    }

    /// It has the member and will have it.
    fn keeps(&self, family: Family, text: &str) -> bool {
        self.holds(family, &Atom::from(text)) && !self.gone[family.place()].contains(text)
    }

    /// How many members of a family it will have.
    fn count(&self, family: Family) -> usize {
        let at = family.place();
        self.held[at] + self.come[at].len() - self.gone[at].len()
    }

    /// Without members.
    pub(crate) fn is_empty(&self) -> bool {
        Family::BOTH.into_iter().all(|family| self.count(family) == 0)
    }

    /// Something comes or goes.
    pub(crate) fn is_changed(&self) -> bool {
        self.gone.iter().chain(&self.come).any(|texts| !texts.is_empty())
    }

    /// What it has more than `room` goes: gives that back.
    fn shed(&mut self, family: Family, room: usize) -> Result<Vec<String>, RowError> {
        let surplus = self.count(family).saturating_sub(room);
        let Some(row) = self.row.filter(|_| surplus > 0) else { return Ok(Vec::new()) };
        let at = family.place();
        let texts = row.datum(family.column())?.atoms().filter_map(Atom::as_str);
        let stays = texts.filter(|text| !self.gone[at].contains(*text));
        let surplus: Vec<String> = stays.skip(room).map(str::to_owned).collect();
        self.gone[at].extend(surplus.iter().cloned());
        Ok(surplus)
    }
}

impl<'a> Plan<'a> {
    /// For a group that has these rows. Of its members these may be others than there are: `true` is wanted. No row has more than `room` of a family then.
    ///
    /// # Errors
    /// A row without a column: the session does not follow it.
    pub(crate) fn new(
        held: Option<&'a GroupRows>,
        members: &BTreeMap<&MemberText, bool>,
        room: usize,
    ) -> Result<Self, RowError> {
        let head = held.and_then(|rows| rows.head.as_deref());
        let mut places = vec![head.map(|row| Place::of(row, 0)).transpose()?.unwrap_or_default()];
        for row in held.iter().flat_map(|rows| rows.parts.values()) {
            places.push(Place::of(row, row.integer("part")?)?);
        }
        places[1..].sort_by_key(|place| place.part);
        let mut moves = false;
        for family in Family::BOTH {
            let mut come = Vec::new();
            for ((_, text), is_wanted) in members.iter().filter(|((of, _), _)| *of == family) {
                let atom = Atom::from(text.as_str());
                let holders = places.iter_mut().filter(|place| place.holds(family, &atom));
                match is_wanted {
                    // Somebody may have put it into two.
                    false => holders.for_each(|place| _ = place.gone[family.place()].insert(text.clone())),
                    true if holders.count() == 0 => come.push(text.clone()),
                    true => {}
                }
            }
            for at in 0..places.len() {
                let mut shed = places[at].shed(family, room)?;
                moves |= !shed.is_empty();
                shed.retain(|text| !places.iter().any(|place| place.keeps(family, text)));
                come.extend(shed);
            }
            settle(&mut places, family, come, room);
        }
        let parts = places.split_off(1);
        moves |= parts.iter().any(|part| part.is_empty() && !part.is_changed());
        Ok(Plan { head: places.pop().unwrap_or_default(), parts, moves })
    }
}

/// Each to the first row with room.
fn settle(places: &mut Vec<Place<'_>>, family: Family, come: Vec<String>, room: usize) {
    let mut at = 0;
    for text in come {
        while places.get(at).is_some_and(|place| place.count(family) >= room) {
            at += 1;
        }
        if at == places.len() {
            let is_free = |number: &i64| !places[1..].iter().any(|place| place.part == *number);
            let part = (1..).find(is_free).unwrap_or_default();
            places.push(Place { part, ..Place::default() });
        }
        places[at].come[family.place()].insert(text);
    }
}
