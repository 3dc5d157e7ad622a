//! A page's frames, as they are sent and as they come out.

use tests::case::{Binding, PacketLine, Step};
use tests::sketch::{Body, CUSTOMER_TAG, Sketch, Tag};

use crate::page_firewall::Sighting;

/// The lines of a step, parts of one datagram together: a tracker holds them back until it has them all.
pub fn datagrams(step: &Step) -> impl Iterator<Item = &[PacketLine]> {
    step.packets.chunk_by(|a, b| a.from == b.from && are_parts_of_one(&a.sketch, &b.sketch))
}

fn are_parts_of_one(a: &Sketch, b: &Sketch) -> bool {
    match (&a.body, &b.body) {
        (Body::Ip(a), Body::Ip(b)) => {
            a.part.is_some() && b.part.is_some() && (a.packet, a.id) == (b.packet, b.id)
        }
        _ => false,
    }
}

/// The frame as it comes out at a port: with its VLAN's tag at a trunk, without any elsewhere.
///
/// # Errors
/// The frame has no bytes, or comes from a trunk and has no tag.
pub fn as_delivered(
    from: &Binding,
    to: &Binding,
    sketch: &Sketch,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut sketch = sketch.clone();
    let tag = if sketch.tags.is_empty() { None } else { Some(sketch.tags.remove(0)) };
    // A tag with VID 0 is no VLAN.
    let vid = from.tag.or(tag.map(|tag| tag.vid)).ok_or("a frame from a trunk has a VLAN tag")?;
    if to.tag.is_none() {
        sketch.tags.insert(0, Tag { ethertype: CUSTOMER_TAG, vid });
    }
    Ok(sketch.bytes()?)
}

/// A sighting for people.
pub fn shown(sighting: &Sighting) -> String {
    let frame = |bytes: &Vec<u8>| match tests::frame_bytes::read(bytes) {
        Some(frame) => format!("{} ({} bytes)", Sketch::from(&frame), bytes.len()),
        None => format!("{} bytes", bytes.len()),
    };
    let port = |(name, frames): (&String, &Vec<Vec<u8>>)| {
        format!("{name} gets [{}]", frames.iter().map(frame).collect::<Vec<_>>().join(", "))
    };
    if sighting.is_empty() {
        "nothing".to_owned()
    } else {
        sighting.iter().map(port).collect::<Vec<_>>().join("; ")
    }
}
