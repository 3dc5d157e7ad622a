//! What a writer says of its batches, and what is given to a server besides.

use ovsdb::{DatabaseSchema, Transaction};
use policy::{Policy, PolicyDelta};

use super::world::{World, bound_to};
use crate::schema::{DATABASE, clustered, schema};

fn policy(ip: &str) -> Policy {
    let document = serde_json::json!({
        "security_groups": [{"id": "g"}],
        "ports": [{"id": "p", "network_id": "n", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": [{"ip_address": ip}],
            "security_groups": ["g"]}]});
    policy::document::parse(&[("p", &document.to_string())], None).policy
}

fn delta(old: &str, new: &str) -> PolicyDelta {
    Policy::diff(&policy(old), &policy(new))
}

#[test]
fn a_batch_of_which_nobody_knows_is_looked_for_in_the_rows() {
    let mut world = World::new(&[]);
    world.write(policy("10.0.0.1"));
    world.run();
    let writer = &mut world.scribe.writer;
    writer.apply(&delta("10.0.0.1", "10.0.0.2"), bound_to);
    let batch = writer.batch(usize::MAX).unwrap();
    let objects: Vec<String> = batch.objects().collect();
    assert_eq!(
        objects,
        ["member 10.0.0.1 of security group g", "member 10.0.0.2 of security group g", "port p"]
    );
    assert!(!writer.is_written(&batch));
    let (transaction, _) = batch.transaction(writer.held(), None, false).unwrap();
    world.transact(&transaction);
    world.run();
    assert!(world.scribe.writer.is_written(&batch));
    world.scribe.writer.failed(batch);
    assert!(world.scribe.writer.batch(usize::MAX).is_none());
}

#[test]
fn half_of_a_batch_is_not_the_batch() {
    let mut world = World::new(&[]);
    world.write(policy("10.0.0.1"));
    world.run();
    let writer = &mut world.scribe.writer;
    writer.apply(&delta("10.0.0.1", "10.0.0.2"), bound_to);
    let batch = writer.batch(usize::MAX).unwrap();
    let half = Transaction::new(DATABASE).with(batch.operations()[0].clone());
    world.transact(&half);
    world.run();
    assert!(!world.scribe.writer.is_written(&batch));
}

#[test]
fn the_schema_of_a_cluster_keeps_all_of_its_columns() {
    let json = clustered();
    assert!(!json.to_string().contains("ephemeral"));
    let clustered = DatabaseSchema::from_json(&json).unwrap();
    for (name, table) in &schema().tables {
        assert_eq!(
            clustered.tables[name].columns.keys().collect::<Vec<_>>(),
            table.columns.keys().collect::<Vec<_>>()
        );
    }
}
