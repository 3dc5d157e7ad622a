//! A port that is plugged in by another Interface in the transaction that takes its old one goes on in its zone.

use pipeline::{OfPort, Zone};
use policy::PortId;

use super::enforced;
use super::world::World;
use crate::host::InterfaceRow;

/// The row that comes in the place of port p-1's, which has zone 4097.
fn heir(port: &str, zone: u16, zone_port: &str) -> InterfaceRow {
    InterfaceRow {
        name: "tap3".into(),
        ofport: Some(OfPort(3)),
        iface_id: Some(PortId::from(port)),
        zone: Some(Zone(zone)),
        zone_port: Some(PortId::from(zone_port)),
        ..InterfaceRow::default()
    }
}

fn flushes(world: &mut World) -> Vec<String> {
    world.take_log().into_iter().filter(|line| line.starts_with("flush")).collect()
}

#[test]
fn the_same_port_keeps_its_zone_and_what_is_in_it() {
    let mut world = enforced();
    world.take_log();
    world.replug(1, 3, heir("p-1", 4097, "p-1"));
    assert_eq!(flushes(&mut world), [""; 0]);
    assert_eq!(world.zone(3), Some(Zone(4097)));
    assert!(world.is_open(3) && !world.is_open(1));
    world.assert_converged();
    // And back, before the switch has opened the new one.
    world.replug(3, 1, InterfaceRow { ofport: None, ..heir("p-1", 4097, "p-1") });
    world.set_interface(1, |row| row.ofport = Some(OfPort(1)));
    assert_eq!(flushes(&mut world), [""; 0]);
    assert!(world.is_open(1) && !world.is_open(3));
    world.assert_converged();
}

#[test]
fn whoever_else_comes_with_the_zone_gets_it_empty_or_another() {
    // Another port, by its name or by the record; a zone that nobody left; one that its holder keeps.
    for (row, flushed) in [
        (heir("p-3", 4097, "p-3"), "flush [4097]"),
        (heir("p-1", 4097, "p-3"), "flush [4097, 4099]"),
        (heir("p-1", 6000, "p-1"), "flush [6000]"),
    ] {
        let mut world = enforced();
        world.take_log();
        world.replug(1, 3, row.clone());
        assert_eq!(flushes(&mut world), [flushed], "{row:?}");
    }
    let mut world = enforced();
    world.take_log();
    world.replug(1, 3, heir("p-1", 4098, "p-1"));
    assert_eq!(world.zone(2), Some(Zone(4098)), "port 2 keeps it");
    assert!(world.zone(3) != Some(Zone(4098)));
    assert!(!flushes(&mut world).is_empty());
    world.assert_converged();
}
