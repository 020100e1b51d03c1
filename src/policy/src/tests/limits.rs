//! Limits of requests and updates: what they may ask for, and what would contradict itself.

use super::*;

const OPEN: &str = "[request]\nmay_set = [\"limits\"]\n";

fn policy(limits: &str) -> Policy {
    parse(&format!("[worker]\nbinary = \"x\"\n[limits]\n{limits}\n{OPEN}")).unwrap()
}

/// As a request and as an update of a worker that runs.
fn ask(policy: &Policy, asked: &[(LimitKey, LimitValue)], facts: &HostFacts) -> [Result<Limits, Violation>; 2] {
    let asked: BTreeMap<LimitKey, LimitValue> = asked.iter().cloned().collect();
    let plan = compile(policy, &request(), facts).unwrap();
    let request = WorkerRequest { limits: asked.clone(), ..request() };
    [compile(policy, &request, facts).map(|plan| plan.limits), update(policy, &plan, &asked, facts)]
}

#[test]
fn a_request_gains_nothing_that_the_policy_does_not_mention() {
    let closed = policy("memory_max = \"1GiB\"\ncpus = 1.0");
    for (key, unset, more) in [
        (LimitKey::CpuWeight, 100, 101),
        (LimitKey::IoWeight, 100, 10_000),
        (LimitKey::CpuBurst, 0, 20_000),
        (LimitKey::MemoryLow, 0, 4096),
    ] {
        for refused in ask(&closed, &[(key, LimitValue::Count(more))], &facts()) {
            assert!(matches!(&refused, Err(Violation::PolicyViolation { setting, .. }) if setting == key.name()), "{refused:?}");
        }
        for granted in ask(&closed, &[(key, LimitValue::Count(unset))], &facts()) {
            assert_eq!(granted.unwrap()[&key].value, LimitValue::Count(unset));
        }
        let most = format!("max = {{ {} = {:?} }}", key.name(), explain::limit(key, &LimitValue::Count(more)));
        let open = parse(&format!("[worker]\nbinary = \"x\"\n[limits]\nmemory_max = \"1GiB\"\ncpus = 1.0\n{OPEN}{most}")).unwrap();
        for granted in ask(&open, &[(key, LimitValue::Count(more))], &facts()) {
            assert!(granted.is_ok(), "{granted:?}");
        }
    }
    for lower in ask(&closed, &[(LimitKey::CpuWeight, LimitValue::Count(1))], &facts()) {
        assert!(lower.is_ok(), "{lower:?}");
    }
}

#[test]
fn protection_is_never_without_bound_and_none_of_it_holds_everywhere() {
    let open = policy("memory_low = { value = \"1GiB\", enforce = \"if_available\" }");
    for refused in ask(&open, &[(LimitKey::MemoryLow, LimitValue::max())], &facts()) {
        assert!(matches!(&refused, Err(Violation::InvalidParams { message, .. }) if message.contains("memory_low")), "{refused:?}");
    }
    assert!(parse("[worker]\nbinary = \"x\"\n[limits]\nmemory_low = \"max\"").is_err());
    let mut without = facts();
    without.unenforceable.insert(LimitKey::MemoryLow, "cgroup v1 has no memory.low".into());
    for none in ask(&open, &[(LimitKey::MemoryLow, LimitValue::Count(0))], &without) {
        assert_eq!(none.unwrap().get(&LimitKey::MemoryLow), None);
    }
    for refused in ask(&open, &[(LimitKey::MemoryLow, LimitValue::Count(4096))], &without) {
        assert!(matches!(refused, Err(Violation::NotEnforceable { .. })), "{refused:?}");
    }
}

#[test]
fn memory_is_neither_slowed_nor_protected_above_its_maximum() {
    let own = policy("memory_max = \"1GiB\"\nmemory_high = \"1GiB\"\nmemory_low = \"512MiB\"");
    let of = |key, mib: u64| (key, LimitValue::Count(mib << 20));
    let (max, high, low) = (LimitKey::MemoryMax, LimitKey::MemoryHigh, LimitKey::MemoryLow);
    for (asked, field) in [
        (vec![of(max, 768)], "limits.memory_high"),
        (vec![of(max, 400), of(high, 300)], "limits.memory_low"),
        (vec![of(max, 400), of(high, 500), of(low, 4)], "limits.memory_high"),
    ] {
        for refused in ask(&own, &asked, &facts()) {
            assert!(matches!(&refused, Err(Violation::InvalidParams { field: told, .. }) if told == field), "{asked:?}: {refused:?}");
        }
    }
    for granted in ask(&own, &[of(max, 400), of(high, 400), of(low, 400)], &facts()) {
        assert!(granted.is_ok(), "{granted:?}");
    }
}

#[test]
fn more_swap_and_more_huge_pages_than_there_are_is_refused_to_who_asks() {
    let own = policy("swap_max = \"64GiB\"\nhugetlb = \"2MiB=64GiB\"\npids_max = \"max\"");
    let here = HostFacts { swap: Some(1 << 30), huge_page_pools: BTreeMap::from([(2 << 20, 16 << 20)]), ..bounded_facts() };
    let pages = |text: &str| (LimitKey::Hugetlb, LimitValue::Text(text.into()));
    let swap = |bytes| (LimitKey::SwapMax, LimitValue::Count(bytes));
    for (asked, said) in [(swap((1 << 30) + 4096), "of swap, 1GiB"), (pages("2MiB=18MiB"), "in huge pages of 2MiB, 16MiB")] {
        for refused in ask(&own, std::slice::from_ref(&asked), &here) {
            assert!(matches!(&refused, Err(Violation::InvalidParams { message, .. }) if message.contains(said)), "{asked:?}: {refused:?}");
        }
    }
    for asked in [swap(1 << 30), swap(0), pages("2MiB=16MiB")] {
        for granted in ask(&own, std::slice::from_ref(&asked), &here) {
            assert!(granted.is_ok(), "{asked:?}: {granted:?}");
        }
    }
    for refused in ask(&own, &[(LimitKey::PidsMax, LimitValue::Count(50_000_000))], &here) {
        assert!(matches!(&refused, Err(Violation::InvalidParams { message, .. }) if message.contains("4194304")), "{refused:?}");
    }
}
