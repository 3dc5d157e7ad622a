//! What programs read, held against the documents that tell of it.
#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and takes what it needs")]

use std::collections::BTreeSet;

use serde_json::Value;

/// What `docs/api/openapi.yaml` says that an answer of the daemon's API has.
pub fn is_documented(schema: &str, answer: &Value) {
    is_as(include_str!("../../../../docs/api/openapi.yaml"), schema, answer);
}

/// What `docs/api/commands.yaml` says that a command prints.
pub fn is_printed_as(schema: &str, printed: &Value) {
    is_as(include_str!("../../../../docs/api/commands.yaml"), schema, printed);
}

fn is_as(text: &str, schema: &str, answer: &Value) {
    let document: Value = serde_saphyr::from_str(text).expect("a document in YAML");
    let keys = |of: &Value| of.as_object().expect("an object").keys().cloned().collect::<BTreeSet<String>>();
    let schemas = &document["components"]["schemas"];
    assert_eq!(keys(answer), keys(&schemas[schema]["properties"]), "{schema}: {answer}");
    for (key, value) in answer.as_object().expect("an object") {
        let property = &schemas[schema]["properties"][key];
        let nested = property["$ref"].as_str().or_else(|| property["items"]["$ref"].as_str());
        let Some(nested) = nested.and_then(|path| path.rsplit('/').next()) else { continue };
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        values.iter().for_each(|value| is_as(text, nested, value));
    }
}
