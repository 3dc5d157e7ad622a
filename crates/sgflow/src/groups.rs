//! `sgflow groups`: the groups of the policy, and what this host makes of them.

use agent::api::{self, GroupEntry, GroupKind, SetFill};
use anyhow::{Context as _, bail};
use clap::Args;

use crate::exit::Exit;
use crate::options::SettingsOptions;
use crate::text::{Sheet, fitted, id, number};

/// The security groups and address groups of the policy: rules, members, the ports here that carry them, sets of the kernel
#[derive(Args, Debug)]
pub(crate) struct GroupsCommand {
    /// One group with everything that is known of it, by its id or else by its name
    group: Option<String>,

    /// Print JSON: a list, as `groups` of GET /v1/groups
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

impl GroupsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let groups = api::groups(&self.settings.config()?.api_socket, self.group.as_deref()).await?;
        if let (Some(group), true) = (&self.group, groups.is_empty()) {
            bail!("the policy has no group {group}");
        }
        match (self.json, &self.group) {
            (true, _) => println!("{}", serde_json::to_string_pretty(&groups).context("groups")?),
            (false, None) => print!("{}", table(&groups)),
            (false, Some(_)) => groups.iter().for_each(|group| println!("{}", sheet(group))),
        }
        Ok(Exit::Done)
    }
}

/// One line a group; an address group has no rules and no ports.
fn table(groups: &[GroupEntry]) -> String {
    let line = |id: &str, name: &str, [rules, v4, v6, ports]: [&str; 4]| {
        format!("{id}  {name:14} {rules:>5} {v4:>6} {v6:>6} {ports:>5}\n")
    };
    let mut text = line(&id("GROUP", 36), "NAME", ["RULES", "IPV4", "IPV6", "PORTS"]);
    for group in groups {
        let of_ports = |count: usize| number(Some(count).filter(|_| group.kind == GroupKind::SecurityGroup));
        let counts = [
            of_ports(group.rules),
            number(group.members_ipv4),
            number(group.members_ipv6),
            of_ports(group.local_ports.len()),
        ];
        text += &line(&id(&group.id, 36), &fitted(&group.name, 14), counts.each_ref().map(String::as_str));
    }
    text
}

fn sheet(group: &GroupEntry) -> String {
    let name = if group.name.is_empty() { String::new() } else { format!(" ({})", group.name) };
    let mut sheet = Sheet::new(&format!("{} {}{name}", group.kind.words(), group.id));
    if let Some(stateful) = group.stateful {
        let kind = if stateful { "stateful" } else { "stateless" };
        sheet.add("rules", &format!("{}, {kind}", group.rules));
    }
    if let (Some(v4), Some(v6)) = (group.members_ipv4, group.members_ipv6) {
        sheet.add("members", &format!("{v4} of IPv4, {v6} of IPv6"));
    }
    let sets: Vec<String> = group.remote_of_sets.iter().map(|set| format!("set {set}")).collect();
    sheet
        .add("ports here", &group.local_ports.join(", "))
        .add("remote of", &sets.iter().chain(&group.remote_of_groups).cloned().collect::<Vec<_>>().join(", "))
        .add("conj_id", &group.conjunction_id.map(|id| id.to_string()).unwrap_or_default());
    for set in &group.kernel_sets {
        sheet.add("kernel set", &fill(set));
    }
    for (object, reason) in &group.refused {
        sheet.add("refused", &format!("{object}: {reason}"));
    }
    sheet.text()
}

/// How full a set of the kernel is.
pub(crate) fn fill(set: &SetFill) -> String {
    let SetFill { name, members, max_members } = set;
    match max_members {
        Some(room) => format!("{name}: {members} of {room}"),
        None => format!("{name}: {members}"),
    }
}

#[cfg(test)]
mod tests {
    use policy::document;

    use super::*;
    use crate::text::COLUMNS;

    fn entries() -> Vec<GroupEntry> {
        let text = "security_groups: [{id: d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11, name: web servers of project, security_group_rules: []}]\naddress_groups: [{id: ag-1, name: offices, addresses: []}]";
        let policy = document::parse(&[("p.yaml", text)], None).policy;
        let mut group = GroupEntry::of_security_group(policy.groups.values().next().expect("a group"));
        group.rules = 12;
        (group.members_ipv4, group.members_ipv6) = (Some(200_000), Some(0));
        group.local_ports = (1..20).map(|n| format!("port-{n}")).collect();
        (group.conjunction_id, group.remote_of_sets) = (Some(3), vec![1, 4]);
        group.kernel_sets = vec![SetFill {
            name: "NIPv4d9d9fd5a-5f23-4d40-9ed8-".into(),
            members: 200_000,
            max_members: Some(524_288),
        }];
        let rule = "rule r7 of security group d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11".to_owned();
        group.refused = [(rule, "the switch knows no such extension header".to_owned())].into();
        let offices = policy.address_groups.values().next().expect("an address group");
        vec![group, GroupEntry::of_address_group(offices)]
    }

    #[test]
    fn a_line_a_group_in_80_columns() {
        let text = table(&entries());
        expect_test::expect![[r"
            GROUP                                 NAME           RULES   IPV4   IPV6 PORTS
            d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11  web servers o…    12 200000      0    19
            ag-1                                  offices            -      -      -     -
        "]]
        .assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }

    #[test]
    fn all_of_a_group_in_80_columns() {
        let text = sheet(&entries()[0]);
        expect_test::expect![[r"
            security group d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11 (web servers of project)
              rules       12, stateful
              members     200000 of IPv4, 0 of IPv6
              ports here  port-1, port-2, port-3, port-4, port-5, port-6, port-7, port-8,
                          port-9, port-10, port-11, port-12, port-13, port-14, port-15,
                          port-16, port-17, port-18, port-19
              remote of   set 1, set 4
              conj_id     3
              kernel set  NIPv4d9d9fd5a-5f23-4d40-9ed8-: 200000 of 524288
              refused     rule r7 of security group d9d9fd5a-5f23-4d40-9ed8-0d0a9c5f2b11:
                          the switch knows no such extension header"]]
        .assert_eq(&text);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS));
    }
}
