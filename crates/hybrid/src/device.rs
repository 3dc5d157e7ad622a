//! The devices that a port has on a host with the hybrid bridge.

use std::fmt;

/// Begins the name of the end of the pair that is plugged into the integration bridge (Nova and os-vif: `VIF_OVS` with
/// `hybrid_plug`).
const OUTER: &str = "qvo";
/// `IFNAMSIZ` less its NUL, less the three letters.
const LONGEST: usize = 12;

/// The devices of one port: `tap…` (the guest's), `qbr…` (a bridge between the two), `qvb…` and `qvo…` (a pair of devices from there to the
/// integration bridge). All end in the same up to eleven characters, the first of the port's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Devices {
    end: String,
}

impl Devices {
    /// Of the port that is plugged into the integration bridge by the interface of this name; none if that is no `qvo…`, or if no device
    /// can be called so.
    pub fn of_interface(name: &str) -> Option<Self> {
        let end = name.strip_prefix(OUTER)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = !end.is_empty() && end.len() <= LONGEST && end.bytes().all(is_plain);
        fits.then(|| Devices { end: end.to_owned() })
    }

    /// What all four end in.
    pub fn end(&self) -> &str {
        &self.end
    }

    /// The guest's device.
    pub fn tap(&self) -> String {
        format!("tap{}", self.end)
    }

    /// The end of the pair on the bridge of its own.
    pub fn inner(&self) -> String {
        format!("qvb{}", self.end)
    }

    /// The end of the pair on the integration bridge.
    pub fn outer(&self) -> String {
        format!("{OUTER}{}", self.end)
    }

    /// The bridge of its own.
    pub fn bridge(&self) -> String {
        format!("qbr{}", self.end)
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.tap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_the_interface() {
        let devices = Devices::of_interface("qvo1a2b3c4d-5e").unwrap();
        let names = [devices.tap(), devices.bridge(), devices.inner(), devices.outer()];
        assert_eq!(names, ["tap1a2b3c4d-5e", "qbr1a2b3c4d-5e", "qvb1a2b3c4d-5e", "qvo1a2b3c4d-5e"]);
    }

    #[test]
    fn what_is_no_device_of_a_hybrid_bridge_is_none() {
        for name in ["tap1a2b3c4d-5e", "qvo", "qvo1 2", "qvo\"", "qvo1a2b3c4d-5e12", "int-br-ex"] {
            assert_eq!(Devices::of_interface(name), None, "{name}");
        }
    }
}
