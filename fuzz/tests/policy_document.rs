//! The document that an operator or an API writes, as YAML and as JSON.

use bolero::check;
use fuzz::{CASES, Damage, bounded, corpus, references_lead_somewhere};
use policy::Policy;
use policy::document::{Parsed, parse};

fn judge(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for name in ["policy.yaml", "policy.json"] {
        judge_as(name, &text);
    }
}

fn judge_as(name: &str, text: &str) {
    let files = [(name, text)];
    let parsed = bounded(text.len(), || parse(&files, None));
    is_whole(&parsed);
    if parsed.document_refused {
        assert_eq!(parsed.policy, Policy::default(), "nothing of a refused document is applied");
    }
    // What is refused stays as it was, and what is not says the same again.
    let again = parse(&files, Some(&parsed.policy));
    assert_eq!(again.policy, parsed.policy);
    assert_eq!((&again.refused, again.document_refused), (&parsed.refused, parsed.document_refused));
}

/// Every problem is told, and every reference leads somewhere, but for remote groups.
fn is_whole(parsed: &Parsed) {
    let Parsed { policy, diagnostics, refused, document_refused } = parsed;
    assert!(diagnostics.iter().all(|diagnostic| diagnostic.line >= 1), "{diagnostics:?}");
    assert!(!diagnostics.is_empty() || (refused.is_empty() && !document_refused), "refused without a reason");
    references_lead_somewhere(policy);
}

#[test]
fn policy_document() {
    check!(name = "policy_document").with_iterations(CASES).for_each(judge);
}

#[test]
fn policy_document_damaged() {
    let seeds = corpus("policy_document");
    check!(name = "policy_document_damaged")
        .with_iterations(CASES / 4)
        .with_type::<Damage>()
        .for_each(|damage| judge(&damage.apply(&seeds)));
}
