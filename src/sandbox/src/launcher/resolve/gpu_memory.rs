//! What there is on this host to hold a worker to its GPU memory.

use rbee_hive_policy::Ability;

use super::super::Purpose;

/// Whether a hive is there to account GPU memory by process.
pub(crate) fn watched(purpose: Purpose) -> Ability {
    match purpose {
        Purpose::Serve => Ability::There,
        Purpose::Run => Ability::Missing { why: "no hive watches a foreground command".into() },
    }
}
