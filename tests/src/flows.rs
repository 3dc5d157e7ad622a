//! The flows of a page: what the renderer makes of its policy, as far as the page shows it.

use agent::bindings::Bindings;
use agent::render::render;
use pipeline::{FlowKind, LAYOUT, decode_cookie};
use rust_openflow::Flow;
use serde_json::json;

use crate::case::{Binding, Case, FlowsBlock, ShownKinds, Step};

/// Renders what each `flows` block of a page is to hold, in order of the page.
///
/// # Errors
/// A block names an unknown table, or the bindings cannot be used.
pub fn rendered(case: &Case) -> Result<Vec<String>, String> {
    let blocks = case.steps.iter().filter_map(|step| Some((step, step.flows.as_ref()?)));
    blocks.map(|(step, block)| rendered_block(step, block)).collect()
}

/// The page with every `flows` block as the renderer has it.
///
/// # Errors
/// As [`rendered`].
pub fn blessed(case: &Case, page: &str) -> Result<String, String> {
    let mut texts = rendered(case)?.into_iter();
    let mut blessed = String::new();
    let mut is_inside = false;
    for line in page.lines() {
        is_inside &= line != "```";
        if !is_inside {
            blessed.extend([line, "\n"]);
        }
        if line.starts_with("```flows") {
            is_inside = true;
            blessed.push_str(&texts.next().ok_or("more blocks than steps have")?);
        }
    }
    Ok(blessed)
}

/// Every flow that a step's policy is rendered to on an empty bridge.
///
/// # Errors
/// The bindings cannot be used.
pub fn of_step(step: &Step) -> Result<Vec<Flow>, String> {
    let rendering = render(&step.policy, &bindings(step)?, &step.config.permitted_ethertypes);
    Ok(rendering.map_err(|error| error.to_string())?.flows)
}

fn rendered_block(step: &Step, block: &FlowsBlock) -> Result<String, String> {
    let flows = of_step(step)?;
    let mut text = String::new();
    for shown in &block.tables {
        let table = LAYOUT.tables.iter().find(|table| table.name == shown.name).map(|table| table.id);
        let table = table.ok_or_else(|| format!("the pipeline has no table {:?}", shown.name))?;
        let kinds = kinds(&shown.kinds)?;
        let is_shown = |flow: &&Flow| {
            let kind = decode_cookie(flow.cookie).map(|(kind, _)| kind);
            flow.table == table && kind.is_some_and(|kind| kinds.contains(&kind))
        };
        text.extend(flows.iter().filter(is_shown).map(|flow| without_cookie(flow) + "\n"));
    }
    Ok(text)
}

fn kinds(shown: &ShownKinds) -> Result<Vec<FlowKind>, String> {
    let all = || FlowKind::ALL.iter().copied();
    match shown {
        ShownKinds::All => Ok(all().collect()),
        ShownKinds::Particular => {
            Ok(all().filter(|kind| ![FlowKind::Static, FlowKind::Set].contains(kind)).collect())
        }
        ShownKinds::One(name) => {
            let known = LAYOUT.kinds.iter().find(|(_, known, _)| known == name).map(|(number, ..)| *number);
            let kind = known.and_then(|number| all().find(|kind| *kind as u8 == number));
            kind.map(|kind| vec![kind]).ok_or_else(|| format!("the pipeline has no kind of flow {name:?}"))
        }
    }
}

fn bindings(step: &Step) -> Result<Bindings, String> {
    let entry = |binding: &Binding| {
        json!({
            "port_id": binding.port_id, "interface": binding.interface, "ofport": binding.ofport,
            "tag": binding.tag, "uplink": binding.uplink,
        })
    };
    let entries: Vec<_> = step.bindings.iter().map(entry).collect();
    Bindings::parse(&json!(entries).to_string()).map_err(|error| error.to_string())
}

/// The flow in ovs-ofctl's text. Its cookie tells sgflow what the flow is for, and a reader nothing.
fn without_cookie(flow: &Flow) -> String {
    let text = flow.to_string();
    match text.split_once(", ") {
        Some((cookie, rest)) if cookie.starts_with("cookie=") => rest.to_owned(),
        _ => text,
    }
}
