//! What the switch holds, in words: for whoever looks at it because something does not work.
//!
//! Pure: flows, packets and policies come in as values, values that can be printed go out.
#![forbid(unsafe_code)]

pub mod answer;
pub mod decode;
pub mod path;
pub mod question;
pub mod readable;
pub mod words;
