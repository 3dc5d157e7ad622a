//! Compiles `flows/pipeline.toml` into constants, so that a table, priority, register or cookie is declared once.
#![allow(clippy::disallowed_methods, reason = "the build script is cargo's, the crate it builds stays pure")]

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pipeline {
    register: Vec<Register>,
    reason: Vec<Named>,
    cookie: Cookie,
    table: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Register {
    name: String,
    field: String,
    doc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    id: u8,
    name: String,
    doc: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cookie {
    magic: u16,
    doc: String,
    kind: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    id: u8,
    name: String,
    doc: String,
    #[serde(default)]
    slot: Vec<Slot>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    name: String,
    priority: u16,
    r#match: String,
    action: String,
}

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let source = Path::new(&manifest).join("../../flows/pipeline.toml");
    println!("cargo::rerun-if-changed={}", source.display());
    let text = fs::read_to_string(&source).expect("flows/pipeline.toml can be read");
    let pipeline: Pipeline = toml::from_str(&text).expect("flows/pipeline.toml is as build.rs expects it");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("layout.rs");
    fs::write(out, generate(&pipeline)).expect("OUT_DIR can be written");
}

fn generate(pipeline: &Pipeline) -> String {
    let mut out = String::new();
    registers(&mut out, &pipeline.register);
    reasons(&mut out, &pipeline.reason);
    cookies(&mut out, &pipeline.cookie);
    for table in &pipeline.table {
        table_module(&mut out, table);
    }
    descriptions(&mut out, pipeline);
    out
}

/// Writing to a String cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => { writeln!($out, $($arg)*).expect("a String takes any text") };
}

fn registers(out: &mut String, registers: &[Register]) {
    line!(out, "/// The registers, by what they hold.\npub mod register {{\n    use rust_openflow::Field;\n");
    for register in registers {
        let number: u8 = register
            .field
            .strip_prefix("reg")
            .and_then(|n| n.parse().ok())
            .expect("a register is reg0 to reg15");
        line!(out, "    /// {}", register.doc);
        line!(out, "    pub const {}: Field = Field::Reg({number});", register.name.to_uppercase());
    }
    line!(out, "}}\n");
}

fn reasons(out: &mut String, reasons: &[Named]) {
    line!(out, "/// Why a frame was dropped, as `reg10` says it on the way into table `drop`.");
    line!(out, "#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]\n#[repr(u8)]");
    line!(out, "pub enum DropReason {{");
    for reason in reasons {
        line!(out, "    /// {}\n    {} = {},", reason.doc, camel(&reason.name), reason.id);
    }
    line!(out, "}}\n\nimpl DropReason {{\n    /// Every reason.\n    pub const ALL: &[Self] = &[");
    for reason in reasons {
        line!(out, "        Self::{},", camel(&reason.name));
    }
    line!(
        out,
        "    ];\n\n    /// The reason in the words of the law.\n    pub const fn name(self) -> &'static str {{"
    );
    line!(out, "        match self {{");
    for reason in reasons {
        line!(out, "            Self::{} => {:?},", camel(&reason.name), reason.name);
    }
    line!(out, "        }}\n    }}\n}}\n");
}

fn cookies(out: &mut String, cookie: &Cookie) {
    line!(out, "/// Bits 48..63 of every cookie of ours.\npub const COOKIE_MAGIC: u16 = {};\n", cookie.magic);
    line!(out, "/// What kind of flow a cookie says it is.");
    line!(out, "#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]\n#[repr(u8)]");
    line!(out, "pub enum FlowKind {{");
    for kind in &cookie.kind {
        line!(out, "    /// {}\n    {} = {},", kind.doc, camel(&kind.name), kind.id);
    }
    line!(out, "}}\n\nimpl FlowKind {{\n    /// Every kind.\n    pub const ALL: &[Self] = &[");
    for kind in &cookie.kind {
        line!(out, "        Self::{},", camel(&kind.name));
    }
    line!(out, "    ];\n}}\n");
}

fn table_module(out: &mut String, table: &Table) {
    line!(out, "/// {}\npub mod {} {{", table.doc, table.name);
    line!(out, "    /// The table's number.\n    pub const TABLE: u8 = {};", table.id);
    for slot in &table.slot {
        line!(out, "    /// Priority of `{}` → `{}`", or_any(&slot.r#match), slot.action);
        line!(out, "    pub const {}: u16 = {};", slot.name.to_uppercase(), slot.priority);
    }
    line!(out, "}}\n");
}

fn or_any(text: &str) -> &str {
    if text.is_empty() { "any" } else { text }
}

fn descriptions(out: &mut String, pipeline: &Pipeline) {
    line!(
        out,
        "/// The whole layout as data, for documents and decoders.\npub const LAYOUT: Layout = Layout {{"
    );
    line!(out, "    cookie: {:?},\n    registers: &[", pipeline.cookie.doc);
    for register in &pipeline.register {
        line!(out, "        ({:?}, {:?}, {:?}),", register.field, register.name, register.doc);
    }
    line!(out, "    ],\n    reasons: &[");
    for reason in &pipeline.reason {
        line!(out, "        ({}, {:?}, {:?}),", reason.id, reason.name, reason.doc);
    }
    line!(out, "    ],\n    kinds: &[");
    for kind in &pipeline.cookie.kind {
        line!(out, "        ({}, {:?}, {:?}),", kind.id, kind.name, kind.doc);
    }
    line!(out, "    ],\n    tables: &[");
    for table in &pipeline.table {
        line!(
            out,
            "        TableLayout {{ id: {}, name: {:?}, doc: {:?}, slots: &[",
            table.id,
            table.name,
            table.doc
        );
        for slot in &table.slot {
            line!(
                out,
                "            SlotLayout {{ name: {:?}, priority: {}, matches: {:?}, action: {:?} }},",
                slot.name,
                slot.priority,
                slot.r#match,
                slot.action
            );
        }
        line!(out, "        ] }},");
    }
    line!(out, "    ],\n}};");
}

/// `spoofed-mac` → `SpoofedMac`.
fn camel(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let mut chars = word.chars();
            chars
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
                .unwrap_or_default()
        })
        .collect()
}
