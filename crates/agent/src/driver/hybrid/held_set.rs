//! A set or map of a table: what is to be in it, and what is.

use nftables::{DataType, Element, Keys, Set, SetFlags, SetId};
use policy::Ethertype;
use reconcile::{Change, Tracker};

use super::encode::{Place, member_elements};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct HeldSet {
    /// Of members of this family; none of a set that the text makes.
    members: Option<Ethertype>,
    is_wide: bool,
    pub(super) is_wanted: bool,
    pub(super) is_there: bool,
    pub(super) elements: Tracker<Place, Option<nftables::Data>>,
}

impl HeldSet {
    /// One that the text makes.
    pub(super) fn of_text() -> Self {
        HeldSet { members: None, is_wide: false, is_wanted: true, is_there: true, elements: Tracker::new() }
    }

    /// One of members, which is not there yet and not wanted yet.
    pub(super) fn of_members(set: &str, ethertype: Ethertype) -> Self {
        HeldSet {
            members: Some(ethertype),
            is_wide: hybrid::nft::is_wide(set),
            is_wanted: false,
            is_there: false,
            elements: Tracker::new(),
        }
    }

    /// It shall not be there any more.
    pub(super) fn unwant(&mut self) {
        let wanted: Vec<Place> = self.elements.iter_desired().map(|(place, _)| place.clone()).collect();
        for place in wanted {
            self.elements.unwant(place);
        }
        self.is_wanted = false;
    }

    /// As it is made.
    pub(super) fn spec(&self, id: &SetId) -> Option<Set> {
        let key = match self.members? {
            Ethertype::Ipv4 => DataType::Ipv4Address,
            Ethertype::Ipv6 => DataType::Ipv6Address,
        };
        let keys = if self.is_wide { Keys::Ranges } else { Keys::Single };
        Some(Set::new(id.clone(), &[key], keys))
    }

    /// Whether one that the kernel has is as it would be made.
    pub(super) fn is_as(&self, found: &Set) -> bool {
        self.spec(&found.id).is_none_or(|spec| {
            (spec.flags, spec.key_type, spec.key_length, spec.data)
                == (found.flags, found.key_type, found.key_length, found.data)
        })
    }

    /// What the kernel has in it.
    pub(super) fn read(&mut self, found: &Set, elements: Vec<Element>) {
        let is_of_ranges = found.flags.has(SetFlags::INTERVAL) && !found.flags.has(SetFlags::CONCAT);
        self.elements.replace_actual(match is_of_ranges {
            true => nftables::ranges(elements)
                .into_iter()
                .map(|(first, behind, data)| ((first, behind), data))
                .collect::<Vec<_>>(),
            false => elements
                .into_iter()
                .map(|element| ((element.key, element.key_end), element.data))
                .collect::<Vec<_>>(),
        });
        self.is_there = true;
    }

    /// What is to be taken out, and then put in.
    pub(super) fn edit(&self, changes: &[Change<Place, Option<nftables::Data>>]) -> [Vec<Element>; 2] {
        let (mut delete, mut add) = (Vec::new(), Vec::new());
        for change in changes {
            if let Some(old) = change.old_value() {
                delete.extend(self.elements_of(change.key(), old));
            }
            if let Some(new) = change.new_value() {
                add.extend(self.elements_of(change.key(), new));
            }
        }
        [delete, add]
    }

    fn elements_of(&self, place: &Place, data: &Option<nftables::Data>) -> Vec<Element> {
        if self.members.is_some() {
            return member_elements(place, self.is_wide);
        }
        let mut element = Element::key(place.0.clone());
        (element.key_end, element.data) = (place.1.clone(), data.clone());
        vec![element]
    }
}
