//! What a store has besides a policy: the row Global, in which hosts are asked for an answer, and the role of hosts.

use std::time::Duration;

use ovsdb::{
    Insert, Mutate, Mutator, NamedRow, Operation, OperationIndex, Select, Transaction, Uuid, Value, Wait,
};

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
            .set("update", Value::set(["applied", "refused", "version", "writes"]));
        transaction.push(Operation::from(of_hosts));
        let role = Insert::into("RBAC_Role")
            .set("name", HOST_ROLE)
            .set("permissions", Value::map([(HOST, &permission)]));
        transaction.push(Operation::from(role));
        is_needed = true;
    }
    is_needed.then_some(transaction)
}

/// Gives out a new number for hosts to answer, which is the result of the operation whose place is returned. It fails in a store in which
/// nobody has finished writing a policy: with a number, hosts would take what there is for one.
pub fn ask(global: Uuid) -> (Transaction, OperationIndex) {
    let mut transaction = Transaction::new(DATABASE);
    let wait = Wait::until_not_equal(GLOBAL).timeout(Duration::ZERO).filter(global);
    transaction.push(wait.columns(["sequence"]).row([("sequence", 0)]));
    transaction.push(Mutate::table(GLOBAL).filter(global).mutate("sequence", Mutator::Add, 1));
    let place = transaction.push(Select::from(GLOBAL).filter(global).columns(["sequence"]));
    (transaction, place)
}
