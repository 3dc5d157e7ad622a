//! Every page of `flows/cases` against the evaluator and the renderer. `SGFLOW_BLESS=1` writes the renderer's flows into the
//! pages instead: then read the difference.

use std::path::Path;

use tests::case::Case;
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
    Ok(())
}

datatest_stable::harness! {
    { test = evaluator, root = "../flows/cases", pattern = r"\.md$" },
    { test = renderer, root = "../flows/cases", pattern = r"\.md$" },
}
