//! Seccomp profiles: which system calls a worker may make, which are refused with an errno, and why.
//!
//! Owns the file format of `policies/seccomp/*.toml` and the names of calls. Must never know how a filter is made or loaded.

mod calls;
mod parse;

use serde::{Deserialize, Serialize};

pub(crate) use calls::is_known as known_call;
pub use calls::{call_name, call_number, newest_call};

/// A profile: what stands in neither list is a violation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProfile {
    /// Name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Calls that may be made.
    pub allow: Vec<Allow>,
    /// Calls, or uses of calls, that get an errno. They count before `allow`.
    pub refuse: Vec<Refuse>,
}

/// Calls that may be made, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Names.
    pub calls: Vec<String>,
    /// Why a worker needs them.
    pub reason: String,
}

/// Calls that get an errno, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    /// Names.
    pub calls: Vec<String>,
    /// What the caller gets.
    pub errno: Errno,
    /// Only where all of these hold; always where there is none.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Does not count for a policy that grants this capability.
    #[serde(default)]
    pub unless_capability: Option<String>,
    /// Why they are refused.
    pub reason: String,
}

/// A condition on the lower 32 bits of one argument: exactly one of `is`, `is_not` and `any_bit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which argument, from 0.
    pub arg: u8,
    /// Bits that are looked at.
    #[serde(default)]
    pub mask: Option<u32>,
    /// It is one of these.
    #[serde(default)]
    pub is: Vec<u32>,
    /// It is none of these.
    #[serde(default)]
    pub is_not: Vec<u32>,
    /// It has one of these bits.
    #[serde(default)]
    pub any_bit: Option<u32>,
}

/// Errors that a profile can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "errno(3) names")]
pub enum Errno {
    Eperm,
    Eacces,
    Einval,
    Enosys,
    Eopnotsupp,
    Eafnosupport,
    Eprotonosupport,
}

impl Errno {
    /// Its name in errno(3).
    pub fn name(self) -> &'static str {
        match self {
            Self::Eperm => "EPERM",
            Self::Eacces => "EACCES",
            Self::Einval => "EINVAL",
            Self::Enosys => "ENOSYS",
            Self::Eopnotsupp => "EOPNOTSUPP",
            Self::Eafnosupport => "EAFNOSUPPORT",
            Self::Eprotonosupport => "EPROTONOSUPPORT",
        }
    }

    /// The number, the same on all machines that we know.
    pub fn number(self) -> u32 {
        match self {
            Self::Eperm => 1,
            Self::Eacces => 13,
            Self::Einval => 22,
            Self::Enosys => 38,
            Self::Eprotonosupport => 93,
            Self::Eopnotsupp => 95,
            Self::Eafnosupport => 97,
        }
    }
}

impl Condition {
    /// Whether a call with these arguments meets it.
    pub fn holds(&self, args: &[u32; 6]) -> bool {
        let Some(given) = args.get(usize::from(self.arg)) else { return false };
        let masked = given & self.mask.unwrap_or(u32::MAX);
        match (self.is.is_empty(), self.is_not.is_empty(), self.any_bit) {
            (false, _, _) => self.is.contains(&masked),
            (_, false, _) => !self.is_not.contains(&masked),
            (_, _, Some(bits)) => given & bits != 0,
            (true, true, None) => true,
        }
    }
}

impl SeccompProfile {
    /// Whether a worker with these capabilities may make this call with these arguments.
    pub fn permits(&self, call: &str, args: &[u32; 6], capabilities: &[String]) -> bool {
        let names = |calls: &[String]| calls.iter().any(|c| c == call);
        let refused = |entry: &Refuse| names(&entry.calls) && entry.when.iter().all(|c| c.holds(args));
        self.allow.iter().any(|entry| names(&entry.calls)) && !self.refused(capabilities).any(refused)
    }

    /// What is refused to a worker that has these capabilities.
    pub fn refused<'p>(&'p self, capabilities: &'p [String]) -> impl Iterator<Item = &'p Refuse> {
        self.refuse.iter().filter(|r| r.unless_capability.as_ref().is_none_or(|c| !capabilities.contains(c)))
    }
}

#[cfg(test)]
mod tests;
