//! What a caller may do, in three steps of which each holds the one before.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A role. The order is that of what they may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Reads: workers and their logs, events, devices, policies.
    Observe,
    /// Also starts, changes and stops workers, and takes leases.
    Operate,
    /// Also drains and stops the hive, and declares devices healed.
    Admin,
}

impl Role {
    /// As it is written in files and answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_holds_those_before_it() {
        assert!(Role::Admin > Role::Operate && Role::Operate > Role::Observe);
        for role in Role::value_variants() {
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
    }
}
