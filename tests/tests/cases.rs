//! Every page of `flows/cases` against the evaluator.

use std::path::Path;

use tests::case::Case;
use tests::evaluate;

fn evaluator(_: &Path, page: String) -> datatest_stable::Result<()> {
    let case = Case::parse(&page)?;
    evaluate::run(&case).map_err(|differences| differences.join("\n").into())
}

datatest_stable::harness! {
    { test = evaluator, root = "../flows/cases", pattern = r"\.md$" },
}
