//! What a store has before any policy is in it: the row Global, and the role of hosts.

use ovsdb::{Insert, NamedRow, Operation, Transaction, Uuid, Value};

use crate::schema::{DATABASE, GLOBAL, HOST};

/// The role of a connection at which agents ask (ovsdb-server(7), "RBAC"): whoever comes there writes its own row of table Host, by the
/// common name of its certificate, and nothing else.
pub const HOST_ROLE: &str = "host";

/// Makes what is missing; none if nothing is. `global` and `role`: the rows that are there.
pub fn prepare(global: Option<Uuid>, role: Option<Uuid>) -> Option<Transaction> {
    let mut transaction = Transaction::new(DATABASE);
    let mut is_needed = false;
    if global.is_none() {
        transaction.push(Operation::from(Insert::into(GLOBAL)));
        is_needed = true;
    }
    if role.is_none() {
        let permission = NamedRow::new("of_hosts");
        let of_hosts = Insert::into("RBAC_Permission")
            .named(&permission)
            .set("table", HOST)
            .set("authorization", Value::set(["name"]))
            .set("insert_delete", true)
            .set("update", Value::set(["applied", "refused", "version"]));
        transaction.push(Operation::from(of_hosts));
        let role = Insert::into("RBAC_Role")
            .set("name", HOST_ROLE)
            .set("permissions", Value::map([(HOST, &permission)]));
        transaction.push(Operation::from(role));
        is_needed = true;
    }
    is_needed.then_some(transaction)
}
