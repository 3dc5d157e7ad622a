//! Values of single fields.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::ParseError;
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

/// C's `%#x`: a zero has no prefix.
pub(super) struct AltHex(pub(super) u128);

impl fmt::Display for AltHex {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { out.write_str("0") } else { write!(out, "{:#x}", self.0) }
    }
}

/// Prints a value, and its mask if it is not exact, as the argument of `set_field`.
pub(super) fn masked(out: &mut impl Write, field: Field, value: u128, mask: u128) -> fmt::Result {
    let exact = mask == field.full_mask();
    match field.format() {
        Format::Decimal | Format::Hex | Format::Port if !exact => {
            match field.format() {
                Format::Hex => write!(out, "{}", AltHex(value))?,
                _ => write!(out, "{value}")?,
            }
            write!(out, "/{mask:#x}")
        }
        Format::Decimal => write!(out, "{value}"),
        Format::Hex => write!(out, "{}", AltHex(value)),
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

/// An address as inet_ntop(3) prints it, which differs from RFC 5952 in IPv4-compatible addresses
/// (`::1.2.3.4`).
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

/// An unsigned number as strtoull(3) with base 0 reads it: decimal, 0x hexadecimal, 0 octal; at most `bits`
/// bits.
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

/// Reads a field's value and mask as ovs-ofctl does; `None` for `*`, which matches anything.
pub(super) fn parse(field: Field, text: &str) -> Result<Option<(u128, u128)>, ParseError> {
    if text == "*" {
        return Ok(None);
    }
    let parsed = match field.format() {
        Format::Decimal | Format::Hex => numbers(field, text),
        Format::Mac => parse_masked(text, parse_mac, |_| None, field),
        Format::Ipv4 => parse_masked(text, parse_ipv4, |mask| prefix_mask(mask, 32), field),
        Format::Ipv6 => parse_masked(text, parse_ipv6, |mask| prefix_mask(mask, 128), field),
        Format::Port => PortNo::parse(text).map_err(|error| error.reason).and_then(|port| match field {
            Field::InPortNxm => match port.to_u16() {
                Some(short) => Ok((u128::from(short), field.full_mask())),
                None => Err("does not fit 16 bits".to_owned()),
            },
            _ => Ok((u128::from(port.0), field.full_mask())),
        }),
        Format::CtState => parse_flags(field, &CT_STATE_BITS, text),
        Format::TcpFlags => parse_flags(field, &TCP_FLAG_BITS, text),
        Format::TunFlags => parse_flags(field, &TUN_FLAG_BITS, text),
        Format::Frag => FRAG_NAMES
            .iter()
            .find(|(name, ..)| name.eq_ignore_ascii_case(text))
            .map(|(_, value, mask)| (*value, *mask))
            .ok_or_else(|| "none of no, yes, first, later, not_later".to_owned()),
        Format::PacketType => parse_packet_type(text),
    };
    parsed.map(Some).map_err(|reason| ParseError::new(field.name(), text, reason))
}

fn numbers(field: Field, text: &str) -> Result<(u128, u128), String> {
    let bits = u16::try_from(8 * field.bytes()).unwrap_or(128);
    match text.split_once('/') {
        None => Ok((integer(text, bits)?, field.full_mask())),
        Some((value, mask)) => {
            let (value, mask) = (integer(value, bits)?, integer(mask, bits)?);
            if mask & field.full_mask() == field.full_mask() || field.is_maskable() {
                Ok((value, mask))
            } else {
                Err("the field cannot be masked".to_owned())
            }
        }
    }
}

/// Reads `value`, `value/mask` or, where `prefix` can, `value/length`.
fn parse_masked(
    text: &str,
    address: impl Fn(&str) -> Option<u128>,
    prefix: impl Fn(&str) -> Option<u128>,
    field: Field,
) -> Result<(u128, u128), String> {
    let (value, mask) = match text.split_once('/') {
        None => (address(text), Some(field.full_mask())),
        Some((value, mask)) => (address(value), prefix(mask).or_else(|| address(mask))),
    };
    match (value, mask) {
        (None, _) => Err("not an address".to_owned()),
        (_, None) => Err("not a mask".to_owned()),
        (Some(value), Some(mask)) => Ok((value, mask)),
    }
}

fn parse_mac(text: &str) -> Option<u128> {
    let mut bytes = text.split(':');
    let mut address = 0;
    for _ in 0..6 {
        let byte = bytes.next().filter(|byte| (1..=2).contains(&byte.len()))?;
        address = address << 8 | u128::from(u8::from_str_radix(byte, 16).ok()?);
    }
    bytes.next().is_none().then_some(address)
}

fn parse_ipv4(text: &str) -> Option<u128> {
    text.parse::<Ipv4Addr>().ok().map(|address| u128::from(u32::from(address)))
}

fn parse_ipv6(text: &str) -> Option<u128> {
    text.parse::<Ipv6Addr>().ok().map(u128::from)
}

fn prefix_mask(text: &str, bits: u16) -> Option<u128> {
    let length = text.parse::<u16>().ok().filter(|length| *length <= bits)?;
    Some(ones(bits) & !ones(bits - length))
}

/// `+trk-new`, `trk|est`, or numbers.
fn parse_flags(field: Field, names: &[&str], text: &str) -> Result<(u128, u128), String> {
    let bit_of = |name: &str| {
        let bit = names.iter().position(|known| *known == name);
        bit.map(|bit| 1u128 << bit).ok_or_else(|| format!("unknown flag '{name}'"))
    };
    if text.contains('/') {
        let (value, mask) = numbers(field, text)?;
        // Such a mask is printed as the whole one, and is another flow's.
        return match mask == field.full_mask() || mask <= ones(field.bits()) {
            true => Ok((value, mask)),
            false => Err(format!("the mask does not fit {} bits", field.bits())),
        };
    }
    if !text.starts_with(['+', '-']) {
        let mut value = 0;
        for word in text.split('|').filter(|word| !word.is_empty()) {
            value |= integer(word, field.bits()).or_else(|_| bit_of(word))?;
        }
        return Ok((value, field.full_mask()));
    }
    let (mut value, mut mask) = (0, 0);
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let end = rest[1..].find(['+', '-']).map_or(rest.len(), |end| end + 1);
        let bit = bit_of(&rest[1..end])?;
        if mask & bit != 0 {
            return Err(format!("'{}' is given twice", &rest[1..end]));
        }
        mask |= bit;
        value |= if sign == '+' { bit } else { 0 };
        rest = &rest[end..];
    }
    Ok((value, mask))
}

fn parse_packet_type(text: &str) -> Result<(u128, u128), String> {
    let inner = text.trim_start_matches('(').trim_end_matches(')');
    let (namespace, kind) = inner.split_once(',').ok_or("not of the form (namespace,type)")?;
    Ok((integer(namespace, 16)? << 16 | integer(kind, 16)?, Field::PacketType.full_mask()))
}

/// Bytes of `0x01ab00`, or of `01.ab.00`, dots and white space being optional.
pub(super) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .trim_start_matches("0x")
        .bytes()
        .filter(|byte| !matches!(byte, b'.' | b' ' | b'\t'))
        .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or("not hexadecimal")?;
    if digits.len() % 2 == 1 {
        return Err("an odd number of hexadecimal digits".to_owned());
    }
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
