//! What the engine wants written, as one transaction.
//!
//! Maps are mutated by key, never set: `external_ids` and `flow_tables` are shared with others.

use ovsdb::{Condition, Insert, Mutate, Mutator, NamedRow, Operation, Transaction, Update, Value};

use super::rows::DATABASE;
use crate::engine::DatabaseWrite;
use crate::host::{GENERATION, ZONE, ZONE_PORT};

/// The transaction; it fails unless `lock` is ours.
pub(super) fn transaction(lock: &str, writes: &[DatabaseWrite]) -> Transaction {
    let mut transaction = Transaction::new(DATABASE).with(Operation::Assert { lock: lock.to_owned() });
    for write in writes {
        push(&mut transaction, write);
    }
    transaction.with(Operation::Comment("sgflow".to_owned()))
}

fn push(transaction: &mut Transaction, write: &DatabaseWrite) {
    match write {
        DatabaseWrite::FailModeSecure { bridge } => {
            transaction.push(Update::table("Bridge").filter(*bridge).set("fail_mode", "secure"));
            transaction.push(Mutate::table("Open_vSwitch").mutate("next_cfg", Mutator::Add, 1));
        }
        DatabaseWrite::Generation { bridge, mark } => {
            let mutate = Mutate::table("Bridge").filter(*bridge);
            transaction.push(mutate.set_key("external_ids", GENERATION, &mark.to_string()));
        }
        DatabaseWrite::Zone { interface, zone, port } => {
            let mutate = Mutate::table("Interface").filter(*interface);
            let mutate = mutate.set_key("external_ids", ZONE, &zone.to_string());
            transaction.push(mutate.set_key("external_ids", ZONE_PORT, port.as_str()));
        }
        DatabaseWrite::Prefixes { row: Some(row), prefixes, .. } => {
            let prefixes = Value::set(prefixes.iter().copied());
            transaction
                .push(Update::table("Flow_Table").filter(Condition::uuid(*row)).set("prefixes", prefixes));
        }
        DatabaseWrite::Prefixes { bridge, table, row: None, name, prefixes } => {
            let row = NamedRow::new(format!("table_{table}"));
            let prefixes = Value::set(prefixes.iter().copied());
            transaction
                .push(Insert::into("Flow_Table").set("name", *name).set("prefixes", prefixes).named(&row));
            let tables = Value::map([(i64::from(*table), &row)]);
            let mutate = Mutate::table("Bridge").filter(*bridge);
            transaction.push(mutate.mutate("flow_tables", Mutator::Insert, tables));
        }
    }
}
