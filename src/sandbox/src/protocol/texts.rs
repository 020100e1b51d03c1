//! A policy's texts on their way to the hive, which explains them: the launcher only reads.

use std::collections::BTreeMap;

use rbee_hive_policy::{Policy, PolicyError, Traced};
use serde::{Deserialize, Serialize};

/// A policy as it is written, with everything that it includes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTexts {
    /// Its name.
    pub name: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// As written.
    pub text: String,
    /// Included texts by the name that `include` has, and the seccomp profile as `seccomp/NAME`.
    pub fragments: BTreeMap<String, String>,
}

impl PolicyTexts {
    /// Tells two versions of a policy apart, within one run of a hive and its launcher: one program.
    pub fn digest(&self) -> u64 {
        use std::hash::{Hash as _, Hasher as _};
        let mut hasher = std::hash::DefaultHasher::new();
        (&self.name, &self.source, &self.text, &self.fragments).hash(&mut hasher);
        hasher.finish()
    }

    /// Parses them, with places.
    ///
    /// Errors: what is wrong with them, which whoever read them first has found already.
    pub fn trace(&self) -> Result<Traced, PolicyError> {
        let fragment = |name: &str| self.fragments.get(name).cloned();
        Policy::trace(&self.name, &self.label(), &self.text, &fragment)
    }

    /// The file's name in places: that of an embedded policy is `NAME.toml`, as its fragments have theirs.
    pub fn label(&self) -> String {
        if self.source == "embedded" { format!("{}.toml", self.name) } else { self.source.clone() }
    }
}
