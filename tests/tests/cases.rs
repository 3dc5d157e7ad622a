//! Every page of `flows/cases` against the evaluator, the renderer, the interpreter, the proof and the decoder. `SGFLOW_BLESS=1` writes the
//! renderer's flows into the pages instead of comparing them: then read the difference.

mod page_host;

use std::path::Path;

use explain::decode::{Line, Sources, decode};
use page_host::PageHost;
use rust_openflow::{Flow, FlowStats};
use tests::case::{Case, Step};
use tests::{evaluate, flows};

fn evaluator(_: &Path, page: String) -> datatest_stable::Result<()> {
    let case = Case::parse(&page)?;
    evaluate::run(&case).map_err(|differences| differences.join("\n").into())
}

fn renderer(path: &Path, page: String) -> datatest_stable::Result<()> {
    let case = Case::parse(&page)?;
    if case.steps.iter().any(|step| step.flows.is_none()) {
        return Err("a step without a flows block".into());
    }
    if std::env::var_os("SGFLOW_BLESS").is_some() {
        std::fs::write(path, flows::blessed(&case, &page)?)?;
        return Ok(());
    }
    for (step, rendered) in case.steps.iter().zip(flows::rendered(&case)?) {
        let page = step.flows.as_ref().map(|block| block.text.as_str()).unwrap_or_default();
        if page != rendered {
            return Err(format!("the page has\n{page}\nand the renderer\n{rendered}").into());
        }
    }
    // Who saves a switch's flows as text and gives them back, as `ovs-ctl restart` does, gives back the same.
    for flow in case.steps.iter().map(flows::of_step).collect::<Result<Vec<_>, _>>()?.concat() {
        let read: Flow = flow.to_string().parse().map_err(|error| format!("{flow}: {error}"))?;
        if read != flow {
            return Err(
                format!("{flow} is read as another: {:?}, not {:?}", read.matches, flow.matches).into()
            );
        }
    }
    Ok(())
}

/// The frames of a page go through the flows, which follow each other as its policies do.
fn interpreter(_: &Path, page: String) -> datatest_stable::Result<()> {
    of_each_step(&page, PageHost::sent_otherwise)
}

/// The policies of a page for all packets, and not only for those that its author thought of.
fn proof(_: &Path, page: String) -> datatest_stable::Result<()> {
    of_each_step(&page, |host, step| host.proved_otherwise(step))
}

/// `sgflow flows` has a name for every flow of a page, and for all that stands in it.
fn named(_: &Path, page: String) -> datatest_stable::Result<()> {
    let case = Case::parse(&page)?;
    for step in &case.steps {
        let flows = flows::of_step(step)?;
        let lines: Vec<Line> = flows
            .into_iter()
            .enumerate()
            .map(|(number, flow)| Line::of(number, flow, FlowStats::default()))
            .collect();
        for flow in decode(&lines, Sources::default()).flows {
            if !flow.is_named() {
                return Err(format!("{}: {:?}, unnamed {:?}", flow.text, flow.purpose, flow.unnamed).into());
            }
        }
    }
    Ok(())
}

fn of_each_step(
    page: &str,
    otherwise: impl Fn(&mut PageHost, &Step) -> Result<Vec<String>, String>,
) -> datatest_stable::Result<()> {
    let case = Case::parse(page)?;
    let mut host = PageHost::new(&case.steps[0])?;
    for step in &case.steps {
        host.put_in_force(&step.policy)?;
        let found = otherwise(&mut host, step)?;
        if !found.is_empty() {
            return Err(found.join("\n").into());
        }
    }
    Ok(())
}

datatest_stable::harness! {
    { test = evaluator, root = "../flows/cases", pattern = r"\.md$" },
    { test = renderer, root = "../flows/cases", pattern = r"\.md$" },
    { test = interpreter, root = "../flows/cases", pattern = r"\.md$" },
    { test = proof, root = "../flows/cases", pattern = r"\.md$" },
    { test = named, root = "../flows/cases", pattern = r"\.md$" },
}
