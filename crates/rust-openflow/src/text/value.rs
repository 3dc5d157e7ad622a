//! Values of single fields.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::field::{Field, Format, ones};
use crate::port::PortNo;

/// Names of the bits of `ct_state`, from bit 0.
pub(super) const CT_STATE_BITS: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
/// Names of the TCP flags, from bit 0; the last three have none but their value.
pub(super) const TCP_FLAG_BITS: [&str; 12] =
    ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"];
/// The one tunnel flag that can be matched.
pub(super) const TUN_FLAG_BITS: [&str; 1] = ["oam"];
/// `ip_frag`: name, value, mask.
pub(super) const FRAG_NAMES: [(&str, u128, u128); 5] =
    [("no", 0, 3), ("yes", 1, 1), ("first", 1, 3), ("later", 3, 3), ("not_later", 0, 2)];

/// Prints a value, and its mask if it is not exact, as the argument of `set_field`.
pub(super) fn masked(out: &mut impl Write, field: Field, value: u128, mask: u128) -> fmt::Result {
    let exact = mask == field.full_mask();
    match field.format() {
        Format::Decimal | Format::Hex | Format::Port if !exact => {
            match field.format() {
                Format::Hex => write!(out, "{value:#x}")?,
                _ => write!(out, "{value}")?,
            }
            write!(out, "/{mask:#x}")
        }
        Format::Decimal => write!(out, "{value}"),
        Format::Hex => write!(out, "{value:#x}"),
        Format::Port if field == Field::InPortNxm => match u16::try_from(value) {
            Ok(port) => write!(out, "{}", PortNo::from_u16(port)),
            Err(_) => write!(out, "{value}"),
        },
        Format::Port => match u32::try_from(value) {
            Ok(port) => write!(out, "{}", PortNo(port)),
            Err(_) => write!(out, "{value}"),
        },
        Format::Mac => mac(out, value, mask),
        Format::Ipv4 => ipv4(out, value, mask),
        Format::Ipv6 => ipv6(out, value, mask),
        Format::CtState => flags(out, &CT_STATE_BITS, value, mask, 0xffff),
        Format::TcpFlags => flags(out, &TCP_FLAG_BITS, value, mask & ones(12), ones(12)),
        Format::TunFlags => flags(out, &TUN_FLAG_BITS, value, mask & 1, 1),
        Format::Frag => frag(out, value, mask),
        Format::PacketType => write!(out, "({},{:#x})", value >> 16, value & 0xffff),
    }
}

pub(super) fn frag(out: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    let known = FRAG_NAMES.iter().find(|(_, v, m)| (*v, *m) == (value, mask));
    // The one that is left, "not any but later", is what no packet can be. Open vSwitch prints it so, too.
    out.write_str(match (known, mask) {
        (Some((name, ..)), _) => name,
        (None, 1) => "no",
        (None, 2) => "later",
        (None, _) => "<error>",
    })
}

pub(super) fn mac(out: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    let print = |out: &mut _, address: u128| {
        let bytes = address.to_be_bytes();
        let [.., a, b, c, d, e, f] = bytes;
        Write::write_fmt(out, format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
    };
    print(out, value)?;
    if mask & ones(48) == ones(48) {
        return Ok(());
    }
    out.write_char('/')?;
    print(out, mask)
}

pub(super) fn ipv4(out: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    let address = |number: u128| Ipv4Addr::from(u32::try_from(number & ones(32)).expect("cut to 32 bits"));
    write!(out, "{}", address(value))?;
    match prefix(mask, 32) {
        Some(32) => Ok(()),
        Some(length) => write!(out, "/{length}"),
        None => write!(out, "/{}", address(mask)),
    }
}

pub(super) fn ipv6(out: &mut impl Write, value: u128, mask: u128) -> fmt::Result {
    ipv6_address(out, value)?;
    match prefix(mask, 128) {
        Some(128) => Ok(()),
        Some(length) => write!(out, "/{length}"),
        None => {
            out.write_char('/')?;
            ipv6_address(out, mask)
        }
    }
}

/// An address as inet_ntop(3) prints it, which differs from RFC 5952 in IPv4-compatible addresses (`::1.2.3.4`).
fn ipv6_address(out: &mut impl Write, value: u128) -> fmt::Result {
    if value >> 32 == 0 && value > 0xffff {
        let low = u32::try_from(value).expect("the high bits are zero");
        return write!(out, "::{}", Ipv4Addr::from(low));
    }
    write!(out, "{}", Ipv6Addr::from(value))
}

/// The length of a prefix mask of `bits` bits; `None` if it is no prefix.
fn prefix(mask: u128, bits: u16) -> Option<u32> {
    let zeros = (!mask & ones(bits)).count_ones();
    let prefix = ones(bits) & !(ones(u16::try_from(zeros).ok()?));
    (mask & ones(bits) == prefix).then(|| u32::from(bits) - zeros)
}

/// Flags: `a|b` where the mask is all of them, else `+a-b`.
pub(super) fn flags(out: &mut impl Write, names: &[&str], value: u128, mask: u128, all: u128) -> fmt::Result {
    let bits = |set: u128| (0..128u32).filter(move |bit| set >> bit & 1 == 1);
    let name = |bit: u32| usize::try_from(bit).ok().and_then(|bit| names.get(bit)).copied();
    if mask == all {
        let mut words: Vec<_> = bits(value).filter_map(name).map(str::to_owned).collect();
        let unnamed = bits(value).filter(|bit| name(*bit).is_none()).fold(0u128, |set, bit| set | 1 << bit);
        if unnamed != 0 || words.is_empty() {
            words.push(if unnamed == 0 { "0".to_owned() } else { format!("{unnamed:#x}") });
        }
        return out.write_str(&words.join("|"));
    }
    for bit in bits(mask) {
        let sign = if value >> bit & 1 == 1 { '+' } else { '-' };
        write!(out, "{sign}{}", name(bit).unwrap_or("[Unknown]"))?;
    }
    Ok(())
}

/// An unsigned number as strtoull(3) with base 0 reads it: decimal, 0x hexadecimal, 0 octal; at most `bits` bits.
pub(crate) fn integer(text: &str, bits: u16) -> Result<u128, String> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if !digits.chars().all(|c| c.is_digit(radix)) || digits.is_empty() {
        return Err("not a number".to_owned());
    }
    match u128::from_str_radix(digits, radix) {
        Ok(number) if number <= ones(bits) => Ok(number),
        _ => Err(format!("does not fit {bits} bits")),
    }
}
