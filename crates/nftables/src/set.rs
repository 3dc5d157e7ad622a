//! Sets and maps, without what is in them.

use crate::data_type::DataType;
use crate::name::SetId;
use crate::userdata;

/// A set or a map, as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    /// Which one.
    pub id: SetId,
    /// What kind of set.
    pub flags: SetFlags,
    /// What nft(8) takes the key for, by its own number.
    pub key_type: u32,
    /// How long a key is, in bytes.
    pub key_length: u32,
    /// What a map maps to.
    pub data: Option<SetData>,
    /// Of a concatenation that holds ranges: how long each field is, in bytes, without padding.
    pub field_lengths: Vec<u32>,
    /// How many elements it may hold; none: as many as there is memory for.
    pub size: Option<u32>,
    /// What nft(8) has written for itself.
    pub user_data: Vec<u8>,
    /// The kernel's number of it; 0 before it is made.
    pub handle: u64,
}

/// What kind of set it is (`enum nft_set_flags`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct SetFlags(pub u32);

impl SetFlags {
    /// Nothing changes in it while a rule refers to it.
    pub const CONSTANT: Self = Self(0x2);
    /// It holds ranges.
    pub const INTERVAL: Self = Self(0x4);
    /// It maps.
    pub const MAP: Self = Self(0x8);
    /// It holds ranges of concatenated fields.
    pub const CONCAT: Self = Self(0x80);

    /// All of `others` are set.
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl std::ops::BitOr for SetFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        SetFlags(self.0 | other.0)
    }
}

/// What a map maps to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetData {
    /// Verdicts.
    Verdict,
    /// Values.
    Value {
        /// What nft(8) takes them for.
        data_type: u32,
        /// How long one is, in bytes.
        length: u32,
    },
}

/// What the elements of a set are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys {
    /// One key each.
    Single,
    /// All keys from one to another; of a concatenation, all of which each field lies between those of the two.
    Ranges,
}

impl Set {
    /// A set of keys; of more than one field they are concatenated.
    pub fn new(id: SetId, key: &[DataType], keys: Keys) -> Self {
        Self::of(id, key, keys, None, None)
    }

    /// A map from keys to values.
    pub fn map(id: SetId, key: &[DataType], keys: Keys, to: DataType) -> Self {
        let data = SetData::Value { data_type: to.number(), length: to.length() };
        Self::of(id, key, keys, Some(data), Some(to))
    }

    /// A map from keys to verdicts.
    pub fn verdict_map(id: SetId, key: &[DataType], keys: Keys) -> Self {
        Self::of(id, key, keys, Some(SetData::Verdict), None)
    }

    fn of(id: SetId, key: &[DataType], keys: Keys, data: Option<SetData>, to: Option<DataType>) -> Self {
        let is_concatenated = key.len() > 1;
        let flags = [
            (data.is_some(), SetFlags::MAP),
            (keys == Keys::Ranges, SetFlags::INTERVAL),
            (keys == Keys::Ranges && is_concatenated, SetFlags::CONCAT),
        ];
        let flags =
            flags.into_iter().filter(|(is_set, _)| *is_set).fold(SetFlags(0), |all, (_, flag)| all | flag);
        let fields = if flags.has(SetFlags::CONCAT) { key } else { &[] };
        Set {
            id,
            flags,
            key_type: DataType::number_of(key),
            key_length: DataType::length_of(key),
            data,
            field_lengths: fields.iter().map(|field| field.length()).collect(),
            size: None,
            user_data: userdata::of_set(key, to, data.is_some()),
            handle: 0,
        }
    }

    /// It may hold so many elements.
    #[must_use]
    pub fn with_size(mut self, size: u32) -> Self {
        self.size = Some(size);
        self
    }
}
