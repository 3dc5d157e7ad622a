//! What this system is.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;

/// Files that say what the system is (os-release(5), proc(5)); nobody's secrets.
const FILES: [&str; 6] =
    ["/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo", "/proc/modules"];
/// Settings of the kernel that make a difference to connections and to hybrid bridges.
const SETTINGS: [&str; 5] = [
    "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/net/netfilter/nf_conntrack_tcp_loose",
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
];
/// Of one file.
const BYTES: u64 = 64 << 10;

/// Each file after its name, or why it cannot be read.
pub(super) fn facts() -> String {
    let mut text = String::new();
    for path in FILES.iter().chain(&SETTINGS) {
        // Into a String, which takes everything.
        _ = match read(path) {
            Ok(content) => writeln!(text, "== {path}\n{}", content.trim_end()),
            Err(reason) => writeln!(text, "== {path}\n({reason})"),
        };
    }
    text
}

fn read(path: &str) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
