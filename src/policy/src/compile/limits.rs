//! Limits: the policy's, narrowed by the request, on this host.

use super::{Violation, host, writes};
use crate::file::Policy;
use crate::units::NumberList;
use crate::{Ability, Enforce, HostFacts, LimitKey, LimitValue, Limits, NotInForce, PlannedLimit, WorkerRequest};

pub(super) fn compile(policy: &Policy, request: &WorkerRequest, facts: &HostFacts) -> Result<(Limits, Vec<NotInForce>), Violation> {
    let mut notes = Vec::new();
    let mut limits = host::in_its_names(policy, request, facts, &mut notes)?;
    for (key, value) in &request.limits {
        limits.insert(*key, asked(policy, facts, *key, value)?);
    }
    host::check_lists(&limits, facts)?;
    pin(&mut limits, LimitKey::Cpuset, facts.cpuset.as_deref())?;
    pin(&mut limits, LimitKey::Mems, facts.mems.as_deref())?;
    for (key, why) in &facts.unenforceable {
        match limits.get(key).map(|l| (l.enforce, key.asks_nothing(&l.value))) {
            // "No limit" holds everywhere.
            None | Some((_, true)) => drop(limits.remove(key)),
            Some((Enforce::IfAvailable, _)) => {
                limits.remove(key);
                notes.push(NotInForce { setting: key.name().into(), why: why.clone() });
            }
            Some((Enforce::Required, _)) => {
                return Err(Violation::NotEnforceable { setting: key.name().into(), why: why.clone() });
            }
        }
    }
    writes::check(&limits, &mut notes, facts)?;
    for key in LimitKey::OF_A_PROCESS {
        raise(&mut limits, &mut notes, key, facts)?;
    }
    host::check_burst(&limits)?;
    host::check_memory(&limits)?;
    Ok((limits, notes))
}

/// What a request asks for, in the host's own terms, as far as the policy lets it.
///
/// What somebody asks for must hold: a request's limit is required even where the policy's own was not.
pub(super) fn asked(policy: &Policy, facts: &HostFacts, key: LimitKey, value: &LimitValue) -> Result<PlannedLimit, Violation> {
    let value = in_its_units(key, value)?;
    let value = host::named(key, &value, facts).map_err(|why| Violation::invalid(&at(key), why))?;
    narrow(policy, facts, key, &value)?;
    host::check_size(key, &value, facts)?;
    Ok(PlannedLimit { value, enforce: Enforce::Required })
}

/// A limit's name as a parameter.
pub(super) fn at(key: LimitKey) -> String {
    format!("limits.{}", key.name())
}

/// A limit of a process can be lowered by everybody, and raised above what was inherited only with a privilege.
pub(super) fn raise(limits: &mut Limits, notes: &mut Vec<NotInForce>, key: LimitKey, facts: &HostFacts) -> Result<(), Violation> {
    let (Some(limit), Some(hard), Ability::Missing { why }) = (limits.get(&key), facts.hard_limits.get(&key), &facts.raise_limits) else {
        return Ok(());
    };
    let Some(asked) = limit.value.count().filter(|asked| asked > hard) else { return Ok(()) };
    let why = format!("{asked} is above the hard limit {hard} of who started the hive, and {why}");
    if limit.enforce == Enforce::Required {
        return Err(Violation::NotEnforceable { setting: key.name().into(), why });
    }
    limits.remove(&key);
    notes.push(NotInForce { setting: key.name().into(), why });
    Ok(())
}

/// A request that has come from another process can hold any value under any name.
fn in_its_units(key: LimitKey, asked: &LimitValue) -> Result<LimitValue, Violation> {
    let value = serde_json::to_value(asked).map_err(|e| Violation::invalid(key.name(), e.to_string()))?;
    key.parse_value(&value).map_err(|e| Violation::invalid("limits", e.to_string()))
}

fn narrow(policy: &Policy, facts: &HostFacts, key: LimitKey, asked: &LimitValue) -> Result<(), Violation> {
    // A bound of what this host lacks stays under the policy's name for it, and nothing that is asked for is within it.
    let here = |value: &LimitValue| host::named(key, value, facts).unwrap_or_else(|_| value.clone());
    let allowed = match (policy.request.max.get(&key).map(here), policy.limits.get(&key).map(|own| here(&own.value))) {
        (Some(max), Some(own)) if own.within(&max) => max,
        (Some(max), None) => max,
        (_, Some(own)) => own,
        // What a process inherits, or the kernel gives everybody, is what the policy leaves in force; with no entry of its own it is no leave
        // to raise it.
        (None, None) => facts.hard_limits.get(&key).map_or_else(|| key.unset(), |hard| LimitValue::Count(*hard)),
    };
    // Of a process, "max" means all that is inherited.
    if asked.within(&allowed) || (asked.is_max() && LimitKey::OF_A_PROCESS.contains(&key) && !policy.limits.contains_key(&key)) {
        return Ok(());
    }
    Err(Violation::policy(key.name(), format!("{} is asked for, the policy allows {}", show(asked), show(&allowed))))
}

fn show(value: &LimitValue) -> String {
    match value {
        LimitValue::Count(n) => n.to_string(),
        LimitValue::Decimal(n) => n.to_string(),
        LimitValue::Text(t) => t.clone(),
    }
}

/// The lease narrows the set further. What a lease pins is reported where it can't be enforced, not refused: nobody asked for it.
pub(super) fn pin(limits: &mut Limits, key: LimitKey, leased: Option<&str>) -> Result<(), Violation> {
    let Some(leased) = leased else { return Ok(()) };
    // "max" is no list, and no way around the lease.
    let Some(own) = limits.get_mut(&key).filter(|own| !own.value.is_max()) else {
        limits.insert(key, PlannedLimit { value: LimitValue::Text(leased.to_owned()), enforce: Enforce::IfAvailable });
        return Ok(());
    };
    let (LimitValue::Text(text), Ok(leased)) = (&own.value, leased.parse::<NumberList>()) else { return Ok(()) };
    let Ok(wanted) = text.parse::<NumberList>() else { return Ok(()) };
    let both = wanted.intersection(&leased);
    if both.is_empty() {
        return Err(Violation::policy(
            key.name(),
            format!("{wanted} has nothing in common with {leased}, which is what the device or the host has"),
        ));
    }
    own.value = LimitValue::Text(both.to_string());
    Ok(())
}
