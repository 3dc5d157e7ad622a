//! The words of a frame's text for TCP flags and ICMP types.

use policy::Ethertype;

/// Letters of the TCP flags, FIN lowest (RFC 9293, section 3.1).
const FLAG_LETTERS: [char; 8] = ['F', 'S', 'R', 'P', 'A', 'U', 'E', 'C'];

/// ICMP types by word: RFC 792.
const ICMP: &[(u8, &str)] = &[
    (0, "echo-reply"),
    (3, "unreachable"),
    (5, "redirect"),
    (8, "echo-request"),
    (11, "time-exceeded"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
];

/// ICMPv6 types by word: RFC 4443, RFC 2710, RFC 4861, RFC 3810.
const ICMP6: &[(u8, &str)] = &[
    (1, "unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "listener-query"),
    (131, "listener-report"),
    (132, "listener-done"),
    (133, "router-solicitation"),
    (134, "router-advertisement"),
    (135, "neighbour-solicitation"),
    (136, "neighbour-advertisement"),
    (143, "listener-report-v2"),
];

fn words(family: Ethertype) -> &'static [(u8, &'static str)] {
    match family {
        Ethertype::Ipv4 => ICMP,
        Ethertype::Ipv6 => ICMP6,
    }
}

pub(crate) fn icmp_by_word(family: Ethertype, word: &str) -> Option<u8> {
    words(family).iter().find(|(_, known)| *known == word).map(|(number, _)| *number)
}

pub(crate) fn icmp_word(family: Ethertype, icmp_type: u8) -> Option<&'static str> {
    words(family).iter().find(|(number, _)| *number == icmp_type).map(|(_, word)| *word)
}

/// Flags from letters, `-` for none.
pub(crate) fn tcp_flags(text: &str) -> Option<u8> {
    if text == "-" {
        return Some(0);
    }
    text.chars().try_fold(0, |flags, letter| {
        let bit = FLAG_LETTERS.iter().position(|known| *known == letter)?;
        Some(flags | 1 << bit)
    })
}

pub(crate) fn tcp_flags_text(flags: u8) -> String {
    let text: String = FLAG_LETTERS
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags & 1 << bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    if text.is_empty() { "-".to_owned() } else { text }
}
