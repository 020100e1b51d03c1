//! Bounds of writes to block devices, on a host that holds only some writes to them.

use super::Violation;
use crate::{BlockLimits, Enforce, HostFacts, LimitKey, LimitValue, Limits, NotInForce};

/// Refuses a required bound of writes where [`HostFacts::loose_writes`] says that most writes go past it; a wish stays, with a note.
pub(super) fn check(limits: &Limits, notes: &mut Vec<NotInForce>, facts: &HostFacts) -> Result<(), Violation> {
    let (Some(why), Some(limit)) = (&facts.loose_writes, limits.get(&LimitKey::IoMax)) else { return Ok(()) };
    if !bounds_writes(&limit.value) {
        return Ok(());
    }
    let setting = LimitKey::IoMax.name().to_owned();
    match limit.enforce {
        Enforce::Required => {
            let why = format!("wbps and wiops bind direct and synchronous writes only: {why}; bound reads alone, or say if_available");
            Err(Violation::NotEnforceable { setting, why })
        }
        Enforce::IfAvailable => {
            notes.push(NotInForce { setting, why: format!("wbps and wiops bind direct and synchronous writes only: {why}") });
            Ok(())
        }
    }
}

fn bounds_writes(value: &LimitValue) -> bool {
    let LimitValue::Text(text) = value else { return false };
    let of_device = |bounds: &crate::IoBounds| bounds.named().any(|(key, bound)| key.starts_with('w') && bound.is_some());
    text.parse::<BlockLimits>().is_ok_and(|devices| devices.0.values().any(of_device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlannedLimit;

    fn checked(value: &str, enforce: Enforce, facts: &HostFacts) -> Result<Vec<NotInForce>, Violation> {
        let limits = Limits::from([(LimitKey::IoMax, PlannedLimit { value: LimitValue::Text(value.into()), enforce })]);
        let mut notes = Vec::new();
        check(&limits, &mut notes, facts).map(|()| notes)
    }

    #[test]
    fn a_bound_that_most_writes_pass_is_refused_where_it_is_required_and_noted_where_it_is_a_wish() {
        let loose = HostFacts { loose_writes: Some("v1".into()), ..HostFacts::default() };
        for text in ["8:0 wbps=1MiB", "8:0 rbps=1MiB; 8:16 wiops=5"] {
            let refused = checked(text, Enforce::Required, &loose);
            assert!(
                matches!(&refused, Err(Violation::NotEnforceable { setting, why }) if setting == "io_max" && why.contains("v1")),
                "{refused:?}"
            );
            let noted = checked(text, Enforce::IfAvailable, &loose).unwrap();
            assert!(noted.len() == 1 && noted[0].setting == "io_max" && noted[0].why.contains("direct and synchronous"), "{noted:?}");
            assert_eq!(checked(text, Enforce::Required, &HostFacts::default()), Ok(vec![]), "it holds all writes");
        }
        for reads in ["8:0 rbps=1MiB", "8:0 rbps=1MiB wbps=max", "max"] {
            assert_eq!(checked(reads, Enforce::Required, &loose), Ok(vec![]), "{reads}");
        }
    }
}
