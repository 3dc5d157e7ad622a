#![forbid(unsafe_code)]
//! The language of `flows/cases`, and what runs a case against the evaluator.
//!
//! A case is a page of Markdown: prose, a policy, frames, and what becomes of each. [`case`] reads the page,
//! [`frame_text`] its frames ([`sketch`]), [`verdict`] its verdicts; [`frame_bytes`] makes real frames of them and
//! reads real frames back; [`evaluate`] asks the evaluator, [`flows`] the renderer. `flows/README.md` describes the language.
//! Besides, [`faults`] is the list of seeded faults.

pub mod case;
pub mod evaluate;
pub mod faults;
pub mod flows;
pub mod frame_bytes;
pub mod frame_text;
mod frame_words;
pub mod sketch;
pub mod small;
mod transport_bytes;
pub mod verdict;
