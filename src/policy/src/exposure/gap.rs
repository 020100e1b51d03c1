//! What a host does not enforce of a policy, as the score and the doctor take it.

use crate::{LimitKey, NotInForce, SandboxPlan};

/// How much of a setting is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nothing of it is in force.
    Whole,
    /// Some of it is.
    Part,
}

/// A setting that is not in force, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The name in `not_in_force`.
    pub setting: String,
    /// One clause.
    pub why: String,
    /// How much of it.
    pub extent: Extent,
}

/// Limits by their plain names, and what has another name than its key in the policy.
const KEYS: [(&str, &str); 4] = [
    ("devices", "devices.nodes"),
    ("device_program", "devices.nodes"),
    ("init_isolation", "credentials.user"),
    ("restart", "restart.when"),
];

/// What of a plan says how much is left of a setting that is not in force as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// There is a Landlock domain.
    pub landlock: bool,
    /// There is a user namespace.
    pub user_namespace: bool,
    /// There are bounds of block devices.
    pub io_max: bool,
}

impl From<&SandboxPlan> for Remains {
    fn from(plan: &SandboxPlan) -> Self {
        Self { landlock: plan.landlock.is_some(), user_namespace: plan.user_namespace, io_max: plan.limits.contains_key(&LimitKey::IoMax) }
    }
}

impl Gap {
    /// The gaps of a sandbox, `notes` being all that is known not to be in force.
    pub fn of(remains: Remains, notes: &[NotInForce]) -> Vec<Self> {
        let gap = |NotInForce { setting, why }: &NotInForce| {
            let partly = match setting.as_str() {
                "landlock" => remains.landlock,
                // Reads are held to them all the same.
                "io_max" => remains.io_max,
                // The v1 controller has the same list.
                "device_program" => true,
                // The own root of an ordinary user's worker still shows no more nodes than are granted.
                "devices" => remains.user_namespace,
                "credentials.user" | "init_isolation" => remains.user_namespace,
                other => other.starts_with("landlock."),
            };
            Self { setting: setting.clone(), why: why.clone(), extent: if partly { Extent::Part } else { Extent::Whole } }
        };
        notes.iter().map(gap).collect()
    }

    /// Whether it is about the setting of this key (`limits.memory_max`, `landlock.enforce`).
    pub fn is_about(&self, key: &str) -> bool {
        let own = self.setting.as_str();
        if let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == own) {
            return *known == key;
        }
        let (table, rest) = key.split_once('.').unwrap_or((key, ""));
        let (named, _) = own.split_once('.').unwrap_or((own, ""));
        match table {
            "limits" => rest == own || key == own,
            "landlock" => named == "landlock" && rest == "enforce",
            "seccomp" => named == "seccomp" && rest == "profile",
            _ => key == own || (table == own && matches!(rest, "mode" | "enforce" | "profile" | "when")),
        }
    }

    /// Whether it makes a worker less confined at all.
    pub(super) fn is_exposure(&self) -> bool {
        // Where there is no device program, v1's controller has the same list. Where a worker's CPUs are and how a GPU is shared opens nothing.
        !["restart", "device_program", "devices.affinity", "devices.mps"].contains(&self.setting.as_str())
    }

    pub(super) fn openness(&self) -> f64 {
        match self.extent {
            Extent::Whole => 1.0,
            Extent::Part => 0.4,
        }
    }
}
