//! A network namespace that plays a virtual machine.

use std::net::IpAddr;
use std::process::{Command, Output};

use ipnet::IpNet;

use crate::error::Tried as _;
use crate::netns::NetNs;
use crate::packet_socket::{Capture, PacketSocket};
use crate::process;
use crate::{Error, Mac, Ovs};

/// The VM's only interface beside its loopback.
const INTERFACE: &str = "eth0";

/// A VM to be plugged in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmSpec {
    /// Its name; its interface on the switch is `tap-<name>`, so at most 11 bytes.
    pub name: String,
    /// The bridge; `br-int` unless told otherwise.
    pub bridge: String,
    /// The Neutron port, `external_ids:iface-id`; none for a machine of the network outside.
    pub port_id: Option<String>,
    /// The MAC of its interface.
    pub mac: Mac,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Default routes, at most one a family.
    pub gateways: Vec<IpAddr>,
    /// The VLAN of its port; none for a trunk.
    pub tag: Option<u16>,
    /// Bytes of IP that its interface takes.
    pub mtu: u16,
}

impl VmSpec {
    /// A VM without addresses on `br-int`.
    #[must_use]
    pub fn new(name: &str, port_id: &str, mac: Mac) -> Self {
        Self { port_id: Some(port_id.to_owned()), ..Self::outside(name, mac) }
    }

    /// A machine of the network: its port carries no `iface-id`.
    #[must_use]
    pub fn outside(name: &str, mac: Mac) -> Self {
        Self {
            name: name.to_owned(),
            bridge: "br-int".to_owned(),
            port_id: None,
            mac,
            addresses: Vec::new(),
            gateways: Vec::new(),
            tag: None,
            mtu: 1450,
        }
    }

    /// With one more address, such as `10.0.0.1/24`.
    ///
    /// # Errors
    /// The text is no address with a prefix length.
    pub fn address(mut self, text: &str) -> Result<Self, Error> {
        let address = text.parse().map_err(|error: ipnet::AddrParseError| Error::Invalid {
            what: "address",
            value: text.to_owned(),
            reason: error.to_string(),
        })?;
        self.addresses.push(address);
        Ok(self)
    }

    /// On a VLAN.
    #[must_use]
    pub fn tag(mut self, tag: u16) -> Self {
        self.tag = Some(tag);
        self
    }
}

/// A plugged VM. Its interface goes when this and every socket and process in it have gone; the port in the switch's
/// database stays until [`Ovs::del_port`] or the end of the lab, as with a hypervisor that crashed.
#[derive(Debug)]
pub struct Vm {
    spec: VmSpec,
    tap: String,
    netns: NetNs,
}

impl Vm {
    pub(crate) fn plug(ovs: &Ovs, spec: VmSpec) -> Result<Self, Error> {
        let tap = format!("tap-{}", spec.name);
        // IFNAMSIZ of linux/if.h: 16 bytes with the final zero.
        if tap.len() > 15 {
            return Err(Error::Invalid {
                what: "VM name",
                value: spec.name,
                reason: "longer than 11 bytes, too long for the name of an interface".to_owned(),
            });
        }
        let netns = match ovs.prefix() {
            Some(prefix) => NetNs::named(&format!("{prefix}-{}", spec.name))?,
            None => NetNs::new()?,
        };
        quiet_ipv6(&netns)?;
        ovs.netns().ip(&[
            format!(
                "link add {tap} mtu {mtu} type veth peer name {INTERFACE} address {mac} mtu {mtu} netns {path}",
                mtu = spec.mtu,
                mac = spec.mac,
                path = netns.path()
            ),
            format!("link set {tap} up"),
        ])?;
        // Without a device that fills them in later, checksums must be right when the VM sends: else conntrack of the
        // userspace datapath calls every TCP and UDP frame invalid.
        let mut ethtool = Command::new("ethtool");
        ethtool.args(["-K", INTERFACE, "tx", "off"]);
        process::run(ethtool, Some(&netns))?;
        let mut commands = vec![format!("link set {INTERFACE} up")];
        for address in &spec.addresses {
            let nodad = if matches!(address, IpNet::V6(_)) { " nodad" } else { "" };
            commands.push(format!("addr add {address} dev {INTERFACE}{nodad}"));
        }
        commands.extend(spec.gateways.iter().map(|gateway| format!("route add default via {gateway}")));
        netns.ip(&commands)?;
        ovs.vsctl(&add_port(&spec, &tap))?;
        Ok(Self { spec, tap, netns })
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &VmSpec {
        &self.spec
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The switch's end of its interface.
    #[must_use]
    pub fn tap(&self) -> &str {
        &self.tap
    }

    /// Its namespace.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Its first IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Option<IpAddr> {
        self.spec.addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv4)
    }

    /// Its first IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Option<IpAddr> {
        self.spec.addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv6)
    }

    /// Runs a program to its end inside the VM, whatever status it ends with.
    ///
    /// # Errors
    /// It cannot be started.
    ///
    /// # Panics
    /// Without a program in `command`.
    pub fn exec<S: AsRef<str>>(&self, command: &[S]) -> Result<Output, Error> {
        process::output(argv(command), Some(&self.netns))
    }

    /// Runs a program that must end with status 0, and gives back its standard output.
    ///
    /// # Errors
    /// It cannot be started or fails.
    ///
    /// # Panics
    /// Without a program in `command`.
    pub fn run<S: AsRef<str>>(&self, command: &[S]) -> Result<String, Error> {
        process::run(argv(command), Some(&self.netns))
    }

    /// Sends one whole Ethernet frame as it is.
    ///
    /// # Errors
    /// The kernel refuses it (too short, too long).
    pub fn send_frame(&self, frame: &[u8]) -> Result<(), Error> {
        self.netns.enter(|| PacketSocket::open(INTERFACE)?.send(frame))?
    }

    /// Records from now on every frame that arrives.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn capture(&self) -> Result<Capture, Error> {
        self.netns.enter(|| PacketSocket::open(INTERFACE))?.map(Capture::new)
    }
}

fn add_port(spec: &VmSpec, tap: &str) -> Vec<String> {
    let mut arguments: Vec<String> = ["add-port", &spec.bridge, tap].map(str::to_owned).into();
    arguments.extend(spec.tag.map(|tag| format!("tag={tag}")));
    if let Some(port_id) = &spec.port_id {
        // What nova's os-vif notes of an interface.
        arguments.extend(["--", "set", "Interface", tap].map(str::to_owned));
        arguments.push(format!("external_ids:iface-id={port_id}"));
        arguments.push("external_ids:iface-status=active".to_owned());
        arguments.push(format!("external_ids:attached-mac=\"{}\"", spec.mac));
        arguments.push(format!("external_ids:vm-id={}", spec.name));
    }
    arguments
}

fn argv<S: AsRef<str>>(command: &[S]) -> Command {
    let (program, arguments) = command.split_first().expect("a command has a program");
    let mut command = Command::new(program.as_ref());
    command.args(arguments.iter().map(AsRef::as_ref));
    command
}

/// Addresses are usable at once, and of the kernel's own chatter only MLD reports are left.
/// ICMP errors are not rationed, so that every probe of a closed port gets its own.
fn quiet_ipv6(netns: &NetNs) -> Result<(), Error> {
    write_sysctls(
        netns,
        &[
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/dad_transmits", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
            ("net/ipv4/icmp_ratelimit", "0"),
        ],
    )
}

/// Writes kernel parameters of a namespace (the files show those of the thread that opens them).
pub(crate) fn write_sysctls(netns: &NetNs, values: &[(&str, &str)]) -> Result<(), Error> {
    netns.enter(|| {
        values.iter().try_for_each(|(name, value)| {
            std::fs::write(format!("/proc/sys/{name}"), value).tried(|| format!("set {name}"))
        })
    })?
}
