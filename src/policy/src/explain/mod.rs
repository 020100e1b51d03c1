//! What a policy comes to, setting by setting, and where each value is from.
//!
//! ```text
//!  Policy ──settings──► [Setting] ──explain (with Origins)──► [Explained]
//! ```
//! Owns the order and the wording of settings. Must never know what a host can enforce.

mod devices;
mod settings;
pub(crate) mod show;

use serde::{Deserialize, Serialize};

pub(crate) use settings::mode;
pub use settings::{Setting, settings};
pub use show::limit;

use crate::origin::{Origin, Traced};

/// What a value is from that no file says.
pub const DEFAULT: &str = "default";

/// A setting and the place that it is from.
///
/// In JSON `{"setting": "limits.memory_max", "value": "2GiB (required)", "from": "cpu-gguf.toml:11", "file": "cpu-gguf.toml", "line": 11}`;
/// `from` is `default`, and `file` and `line` are `null`, where no file says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Its key; entries of a list share one.
    pub setting: String,
    /// Its value as a file would have it.
    pub value: String,
    /// `FILE:LINE`, or `default`.
    pub from: String,
    /// The policy's file, an included one or the seccomp profile's.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<usize>,
}

/// Every setting of a policy with its place.
pub fn explain(traced: &Traced) -> Vec<Explained> {
    let each = settings(&traced.policy).into_iter().map(|Setting { setting, value, path }| {
        let origin = match path.strip_prefix("seccomp.").filter(|rest| rest.starts_with("allow") || rest.starts_with("refuse")) {
            Some(entry) => traced.origins.in_profile(entry),
            None => traced.origins.of(&path),
        };
        Explained::new((setting, value), origin)
    });
    each.collect()
}

impl Explained {
    fn new((setting, value): (String, String), origin: Option<Origin>) -> Self {
        let from = origin.as_ref().map_or_else(|| DEFAULT.to_owned(), ToString::to_string);
        let (file, line) = origin.map_or((None, None), |o| (Some(o.file), Some(o.line)));
        Self { setting, value, from, file, line }
    }
}

#[cfg(test)]
mod tests;
