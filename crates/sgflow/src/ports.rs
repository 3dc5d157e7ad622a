//! `sgflow ports`: the ports of this host, and what becomes of their frames.

use agent::api::{self, PortEntry};
use anyhow::{Context as _, bail};
use clap::Args;

use crate::exit::Exit;
use crate::options::SettingsOptions;
use crate::text::{Sheet, fitted, id, number, wrap};

/// The ports of this host as they are enforced: filtered, trusted or closed, and why
#[derive(Args, Debug)]
pub(crate) struct PortsCommand {
    /// One port with everything that is known of it, by its id or by the name of its interface
    port: Option<String>,

    /// Print JSON: a list, as `ports` of GET /v1/ports
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl PortsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let ports = api::ports(&self.settings.config()?.api_socket, self.port.as_deref()).await?;
        if let (Some(port), true) = (&self.port, ports.is_empty()) {
            bail!("no interface of the bridge says that it is port {port}, or is called so");
        }
        match (self.json, &self.port) {
            (true, _) => println!("{}", serde_json::to_string_pretty(&ports).context("ports")?),
            (false, None) => print!("{}", table(&ports)),
            (false, Some(_)) => ports.iter().for_each(|port| println!("{}", sheet(port))),
        }
        Ok(Exit::Done)
    }
}

/// One line a port, and one for why it is closed.
fn table(ports: &[PortEntry]) -> String {
    let line = |id: &str, interface: &str, ofport: &str, vlan: &str, state: &str| {
        format!("{id}  {interface:15} {ofport:>6} {vlan:>4}  {state}\n")
    };
    let mut text = line(&id("PORT", 36), "INTERFACE", "OFPORT", "VLAN", "STATE");
    for port in ports {
        let interface = fitted(port.interface.as_deref().unwrap_or("-"), 15);
        let (ofport, vlan) = (number(port.ofport), number(port.vlan));
        text += &line(&id(&port.id, 36), &interface, &ofport, &vlan, &port.state.to_string());
        for reason in port.reason.iter().chain(&port.refused) {
            text += &wrap(&format!("    {reason}"), 4);
            text.push('\n');
        }
    }
    text
}

/// All that is known of a port.
pub(crate) fn sheet(port: &PortEntry) -> String {
    let mut sheet = Sheet::new(&format!("port {}", port.id));
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let count = |value: Option<u32>| value.map(|value| value.to_string()).unwrap_or_default();
    sheet
        .add("state", &port.state.to_string())
        .add("because", &text(&port.reason))
        .add("refused", &text(&port.refused))
        .add("interface", &text(&port.interface))
        .add("ofport", &count(port.ofport.map(u32::from)))
        .add("VLAN", &count(port.vlan.map(u32::from)))
        .add("zone", &count(port.zone.map(u32::from)))
        .add("MAC", &text(&port.mac))
        .add("addresses", &port.addresses.join(", "))
        .add("groups", &port.groups.join(", "))
        .add("set", &count(port.set));
    sheet.text()
}

#[cfg(test)]
mod tests {
    use agent::api::PortState;

    use super::*;
    use crate::text::COLUMNS;

    fn filtered() -> PortEntry {
        PortEntry {
            interface: Some("tap1a2b3c4d-5e".into()),
            ofport: Some(65279),
            vlan: Some(4094),
            zone: Some(4097),
            mac: Some("fa:16:3e:00:00:01".into()),
            addresses: (1..8).map(|n| format!("2001:db8:0:0:1234:5678:9abc:{n}")).collect(),
            groups: vec!["d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11".into(), "web".into()],
            set: Some(17),
            ..PortEntry::new("1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d", PortState::Filtered)
        }
    }

    fn closed() -> PortEntry {
        let reason = "another interface has the same external_ids:iface-id p-2; both are closed until one of \
                      them goes";
        PortEntry { reason: Some(reason.into()), ..PortEntry::new("p-2", PortState::Closed) }
    }

    #[test]
    fn a_line_a_port_in_80_columns() {
        let long = PortEntry::new(&"long-".repeat(9), PortState::Unfiltered);
        let text = table(&[filtered(), closed(), long]);
        expect_test::expect![[r"
            PORT                                  INTERFACE       OFPORT VLAN  STATE
            1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d  tap1a2b3c4d-5e   65279 4094  filtered
            p-2                                   -                    -    -  closed
                another interface has the same external_ids:iface-id p-2; both are closed
                until one of them goes
            long-long-long-long-long-long-long-long-long-
                                                  -                    -    -  unfiltered
        "]]
        .assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn all_of_a_port_in_80_columns() {
        let text = sheet(&PortEntry { refused: Some("mac_address: no MAC".into()), ..filtered() });
        expect_test::expect![[r"
            port 1a2b3c4d-5e6f-4a7b-8c9d-0e1f2a3b4c5d
              state       filtered
              refused     mac_address: no MAC
              interface   tap1a2b3c4d-5e
              ofport      65279
              VLAN        4094
              zone        4097
              MAC         fa:16:3e:00:00:01
              addresses   2001:db8:0:0:1234:5678:9abc:1, 2001:db8:0:0:1234:5678:9abc:2,
                          2001:db8:0:0:1234:5678:9abc:3, 2001:db8:0:0:1234:5678:9abc:4,
                          2001:db8:0:0:1234:5678:9abc:5, 2001:db8:0:0:1234:5678:9abc:6,
                          2001:db8:0:0:1234:5678:9abc:7
              groups      d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11, web
              set         17"]]
        .assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }
}
