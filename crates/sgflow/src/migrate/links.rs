//! The host's network devices, by ip(8): a person waits for this command, and it says what it does.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, bail};
use hybrid::Devices;
use serde_json::Value;

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    /// The bridge it stands on.
    pub(super) master: Option<String>,
    pub(super) is_bridge: bool,
    pub(super) is_up: bool,
    /// Bytes of IP that it takes.
    pub(super) mtu: u64,
}

/// All devices by name.
pub(super) type Links = BTreeMap<String, Link>;

/// Reads the devices of this network namespace.
pub(super) fn read() -> anyhow::Result<Links> {
    let text = ip(&["-d", "-j", "link", "show"])?;
    let links: Vec<Value> = serde_json::from_str(&text).context("ip -j link show")?;
    let link = |link: &Value| {
        let flags = link["flags"].as_array().into_iter().flatten();
        let read = Link {
            master: link["master"].as_str().map(str::to_owned),
            is_bridge: link["linkinfo"]["info_kind"] == "bridge",
            is_up: flags.into_iter().any(|flag| flag == "UP"),
            mtu: link["mtu"].as_u64().unwrap_or(1500),
        };
        Some((link["ifname"].as_str()?.to_owned(), read))
    };
    Ok(links.iter().filter_map(link).collect())
}

/// Takes the guest's device off its bridge. It is down from then on, so that the host itself does not hear the guest before the switch does: a device of
/// a guest that is down takes no frame from it, which the guest does not notice.
pub(super) fn detach(devices: &Devices) -> anyhow::Result<()> {
    let tap = devices.tap();
    ip(&["link", "set", "dev", &tap, "down"])?;
    // What the switch has taken it gives back itself.
    let is_on_bridge = read()?.get(&tap).is_some_and(|link| link.master == Some(devices.bridge()));
    if is_on_bridge {
        ip(&["link", "set", "dev", &tap, "nomaster"])?;
    }
    Ok(())
}

/// Puts the guest's device on its bridge, and up.
pub(super) fn attach(devices: &Devices) -> anyhow::Result<()> {
    ip(&["link", "set", "dev", &devices.tap(), "master", &devices.bridge()])?;
    up(&devices.tap())
}

/// Sets a device up.
pub(super) fn up(device: &str) -> anyhow::Result<()> {
    ip(&["link", "set", "dev", device, "up"]).map(drop)
}

/// Makes the bridge of a port and the pair of devices to the integration bridge, as os-vif makes them (vif_plug_ovs/linux_net.py), as far as they are not
/// there.
pub(super) fn make(devices: &Devices, links: &Links) -> anyhow::Result<()> {
    let (bridge, inner, outer) = (devices.bridge(), devices.inner(), devices.outer());
    if !links.contains_key(&bridge) {
        let how = "type bridge forward_delay 0 ageing_time 0 stp_state 0 mcast_snooping 0";
        ip(&["link", "add", "name", &bridge].into_iter().chain(how.split(' ')).collect::<Vec<_>>())?;
    }
    // The host has no address there, and is not to make itself one.
    let setting = format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6");
    match std::fs::write(&setting, "1") {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context(setting),
        _ => {}
    }
    if !links.contains_key(&inner) || !links.contains_key(&outer) {
        ip(&["link", "add", "name", &inner, "type", "veth", "peer", "name", &outer])?;
    }
    if let Some(tap) = links.get(&devices.tap()) {
        let mtu = tap.mtu.to_string();
        for device in [&inner, &outer] {
            ip(&["link", "set", "dev", device, "mtu", &mtu])?;
        }
    }
    ip(&["link", "set", "dev", &inner, "master", &bridge])?;
    for device in [&bridge, &inner, &outer] {
        up(device)?;
    }
    Ok(())
}

/// Takes the bridge of a port and the pair of devices away, as far as they are there. The guest's device is not touched.
pub(super) fn remove(devices: &Devices, links: &Links) -> anyhow::Result<()> {
    // With one end of a pair the other goes.
    let pair = [devices.inner(), devices.outer()].into_iter().find(|device| links.contains_key(device));
    let bridge = Some(devices.bridge()).filter(|bridge| links.contains_key(bridge));
    for device in pair.iter().chain(&bridge) {
        ip(&["link", "delete", "dev", device])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ip").args(arguments).output().context("ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
