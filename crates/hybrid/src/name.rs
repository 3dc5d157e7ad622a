//! Names of sets, as Neutron gives them, so that operators recognise them.

use policy::Ethertype;

use crate::sets::Remote;

/// A name of a set, less the two characters of the one that is filled beside it to change places with it (`-n`): `IPSET_MAXNAMELEN`
/// is 32 with its NUL, and Neutron cuts names the same way (neutron/agent/linux/ipset_manager.py: `IPSET_NAME_MAX_LENGTH`).
const LONGEST: usize = 29;

/// The name of the set of a remote's members of one family: `NIPv4` or `NIPv6` and the id, cut to 29 characters.
///
/// That is Neutron's name for ids that are as Neutron makes them, random UUIDs (version 4). What of another id is left after the cut may be
/// what is left of its neighbour's, and an address group of a hand-written document may be called as a security group is: such names
/// end in `~` and a hash of the whole, which no other name contains.
pub fn set_name(remote: &Remote, ethertype: Ethertype) -> String {
    let family = match ethertype {
        Ethertype::Ipv4 => "NIPv4",
        Ethertype::Ipv6 => "NIPv6",
    };
    let (id, is_group) = match remote {
        Remote::Group(id) => (id.as_str(), true),
        Remote::AddressGroup(id) => (id.as_str(), false),
    };
    let room = LONGEST - family.len();
    let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_random_uuid(id) || is_group && is_plain && id.len() <= room {
        return family.chars().chain(id.chars().take(room)).collect();
    }
    hashed_set_name(family, id, is_group)
}

/// `~` and 13 digits, behind as much of the id as there is room for and as every program can print.
fn hashed_set_name(family: &str, id: &str, is_group: bool) -> String {
    const DIGITS: usize = 13;
    let readable = id.chars().filter(|c| c.is_ascii_alphanumeric()).take(LONGEST - family.len() - 1 - DIGITS);
    let kind = if is_group { "group" } else { "address group" };
    let mut name: String = family.chars().chain(readable).collect();
    name.push('~');
    name.push_str(&digits(&format!("{kind} {id}"), DIGITS));
    name
}

/// What stands for a text, in 13 digits: another text likely has another one.
pub fn digest(text: &str) -> String {
    digits(text, 13)
}

/// So many digits, of 32 each, that follow from a text: the same in every process and version.
pub(crate) fn digits(text: &str, count: usize) -> String {
    let mut rest = fnv(text.bytes());
    let digit = |_| {
        let digit = u32::try_from(rest % 32).expect("a remainder of 32 is small");
        rest /= 32;
        char::from_digit(digit, 32).expect("below 32")
    };
    (0..count).map(digit).collect()
}

/// FNV-1a of 64 bits (draft-eastlake-fnv).
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// 8-4-4-4-12 digits, of version 4 (RFC 9562, section 5.4).
pub(crate) fn is_random_uuid(id: &str) -> bool {
    let is_digit = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'4',
        _ => byte.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.bytes().enumerate().all(is_digit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn group(id: &str) -> String {
        set_name(&Remote::Group(id.into()), Ethertype::Ipv4)
    }

    #[test]
    fn ids_of_neutron_give_neutrons_names() {
        // As neutron.agent.linux.ipset_manager.IpsetManager.get_name gives them.
        let id = "d9d9fd5a-5f23-4d40-9ed8-ac5a2dae64ee";
        assert_eq!(group(id), "NIPv4d9d9fd5a-5f23-4d40-9ed8-");
        assert_eq!(
            set_name(&Remote::AddressGroup(id.into()), Ethertype::Ipv6),
            "NIPv6d9d9fd5a-5f23-4d40-9ed8-"
        );
        assert_eq!(group("web"), "NIPv4web");
    }

    #[test]
    fn what_a_cut_would_make_alike_is_told_apart() {
        let ids = [
            "00000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-000000000002",
            "the-default-group-of-tenant-a",
            "the-default-group-of-tenant-b",
            "web",
            "wéb",
            "web~",
            "a b",
        ];
        let mut names = BTreeSet::new();
        for id in ids {
            for remote in [Remote::Group(id.into()), Remote::AddressGroup(id.into())] {
                for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
                    let name = set_name(&remote, ethertype);
                    assert!(name.len() <= LONGEST && name.is_ascii(), "{name}");
                    assert!(names.insert(name), "{id}");
                }
            }
        }
        assert_eq!(
            group("the-default-group-of-tenant-a"),
            "NIPv4thedefault~".to_owned() + &group("the-default-group-of-tenant-a")[16..]
        );
    }
}
