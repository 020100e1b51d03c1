//! The policies that come with the hive.

use super::*;

#[test]
fn every_shipped_policy_is_valid() {
    for name in embedded::names() {
        let policy = parse(embedded::policy(name).unwrap());
        assert!(policy.is_ok(), "{name}: {}", policy.unwrap_err());
    }
}

#[test]
fn the_default_policy_is_the_documented_one() {
    let policy = parse(embedded::policy("default").unwrap()).unwrap();
    assert_eq!(policy.worker.command.join(" "), "{binary} --model {model} --device {device} --port {port} {args}");
    assert_eq!(policy.worker.stop, StopPlan { signal: 15, grace_ms: 10_000 });
    assert_eq!(policy.worker.on_hive_exit, OnHiveExit::Keep);
    assert_eq!(policy.readiness.probe, Readiness::Http { path: "/health".into() });
    assert_eq!((policy.readiness.start_timeout_ms, policy.readiness.stall_timeout_ms), (600_000, 60_000));
    assert_eq!(policy.limits[&LimitKey::MemoryMax].value, LimitValue::Count(2 << 30));
    assert_eq!(policy.limits[&LimitKey::PidsMax], PlannedLimit { value: LimitValue::Count(512), enforce: Enforce::IfAvailable });
    assert_eq!((policy.network, policy.devices.gpus), (NetworkMode::Private, Gpus::Leased));
    assert_eq!((policy.filesystem.tmp_size, policy.filesystem.shm_size, policy.process.umask), (64 << 20, 64 << 20, 0o022));
    assert_eq!(policy.verify, VerifyPlan { interval_ms: 30_000, on_drift: OnDrift::Report });
    assert_eq!((policy.worker.on_oom, policy.pressure), (OnOom::Continue, PressurePlan::default()));
    assert_eq!(policy.idle, IdlePlan::default());
    assert!(policy.takes_port());
}
