//! A limit's value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LimitKey, named};
use crate::Enforce;
use crate::units::NumberList;

/// A limit's value. In JSON: `"max"`, an integer, a number, a list such as `"0-3,8"`, or bounds by name such as `"8:0 rbps=10MiB"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LimitValue {
    /// Bytes or a count.
    Count(u64),
    /// A decimal, for `cpus` only.
    Decimal(f64),
    /// `"max"` (no limit), a list of CPUs or nodes, or bounds by name.
    Text(String),
}

impl LimitValue {
    /// "No limit".
    pub fn max() -> Self {
        Self::Text("max".into())
    }

    /// Whether this says "no limit".
    pub fn is_max(&self) -> bool {
        matches!(self, Self::Text(t) if t == "max")
    }

    /// The value as a count, where it is one.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Count(n) => Some(*n),
            _ => None,
        }
    }

    /// Whether `self` allows no more than `other`.
    pub fn within(&self, other: &Self) -> bool {
        let number = |v: &Self| match v {
            Self::Count(n) => Some(*n as f64),
            Self::Decimal(n) => Some(*n),
            Self::Text(_) => None,
        };
        match (self, other) {
            (_, max) if max.is_max() => true,
            (max, _) if max.is_max() => false,
            (Self::Text(a), Self::Text(b)) => match (a.parse::<NumberList>(), b.parse::<NumberList>()) {
                (Ok(a), Ok(b)) => a.without(&b).is_empty(),
                _ => named::within(a, b),
            },
            (Self::Count(a), Self::Count(b)) => a <= b,
            (a, b) => number(a).zip(number(b)).is_some_and(|(a, b)| a <= b),
        }
    }
}

/// A limit as planned: what it is, and what happens where the host can't enforce it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedLimit {
    /// The value in the kernel's units.
    pub value: LimitValue,
    /// Refuse, or report in `not_in_force`.
    pub enforce: Enforce,
}

/// All limits of a sandbox; an absent key means that nothing is set.
pub type Limits = BTreeMap<LimitKey, PlannedLimit>;
