//! From a holder's end to a free GPU.

use serde_json::json;

use super::*;

#[test]
fn a_gpu_is_not_free_before_its_memory_is_back() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    let Releasing { lease_id, gpus } = table.begin_release("a").unwrap();
    assert_eq!((gpus.as_slice(), table.state(&host.gpus[0]).0), ([0].as_slice(), GpuState::Releasing));
    let error = table.acquire(&host, &free("b", json!(0))).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 is held by worker a, whose memory is not back yet");
    assert_eq!(table.begin_release("a"), None, "once is enough");
    assert_eq!(table.awaited(), [(lease_id.clone(), 0)]);
    table.finish_release(&lease_id, 0, Proof::NotMeasured);
    assert_eq!((table.state(&host.gpus[0]).0, table.last_release(0)), (GpuState::Free, Some(Proof::NotMeasured)));
    assert!(table.acquire(&host, &free("b", json!(0))).is_ok());
}

#[test]
fn memory_that_does_not_come_back_quarantines_the_gpu_until_it_is_healed() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    let Releasing { lease_id, .. } = table.begin_release("a").unwrap();
    table.leaked(&lease_id, 0, "3 GiB of worker a did not come back within 30 s");
    assert_eq!(table.state(&host.gpus[0]), (GpuState::VramLeaked, Some("3 GiB of worker a did not come back within 30 s")));
    let error = table.acquire(&host, &free("b", json!("auto"))).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 is not given out: 3 GiB of worker a did not come back within 30 s");
    assert!(table.heal(0) && !table.heal(0));
    assert!(table.acquire(&host, &free("b", json!("auto"))).is_ok());
}

#[test]
fn a_quarantined_gpu_stays_with_who_holds_it_and_goes_to_nobody_else() {
    let (host, mut table) = (host(&[80, 80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    table.quarantine(0, "Xid 79: it has fallen off the bus");
    assert_eq!(table.holder(0), Some("a".into()));
    release(&mut table, "a");
    assert_eq!(got(table.acquire(&host, &free("b", json!("auto")))), ["GPU-1"]);
    assert!(table.acquire(&host, &free("c", json!(0))).is_err());
    assert_eq!(table.state(&host.gpus[0]).0, GpuState::Quarantined);
}

#[test]
fn of_several_sharers_each_is_released_by_itself() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    for who in ["a", "b"] {
        table.acquire(&host, &free(who, json!({"share": {"ways": 2}}))).unwrap();
    }
    let first = table.begin_release("a").unwrap();
    let second = table.begin_release("b").unwrap();
    table.finish_release(&first.lease_id, 0, Proof::Measured);
    assert_eq!(table.state(&host.gpus[0]).0, GpuState::Releasing, "the other one's memory is still awaited");
    table.finish_release(&first.lease_id, 0, Proof::Measured);
    assert_eq!(table.holder(0), Some("b".into()), "twice is once");
    table.finish_release(&second.lease_id, 0, Proof::Measured);
    assert_eq!(table.state(&host.gpus[0]).0, GpuState::Free);
}

#[test]
fn a_name_can_be_had_again_while_the_memory_of_its_last_bearer_is_awaited() {
    let (host, mut table) = (host(&[80, 80]), LeaseTable::default());
    let first = table.acquire(&host, &free("a", json!(0))).unwrap();
    table.begin_release("a").unwrap();
    table.acquire(&host, &free("a", json!(1))).unwrap();
    table.finish_release(&first.id, 0, Proof::Measured);
    assert_eq!((table.holder(0), table.holder(1)), (None, Some("a".into())));
}

#[test]
fn a_worker_runs_on_somebody_elses_lease_and_the_holder_stays() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    let lease = table.acquire(&host, &external("engine", json!(0))).unwrap();
    assert_eq!(got(table.use_lease(&lease.id, "w")), ["GPU-0"]);
    assert!(matches!(table.use_lease(&lease.id, "v"), Err(LeaseError::InUse { worker, .. }) if worker == "w"));
    release(&mut table, "w");
    assert_eq!((table.holder(0), table.state(&host.gpus[0]).0), (Some("engine".into()), GpuState::Leased));
    assert!(table.use_lease(&lease.id, "v").is_ok(), "the next one may");
    assert!(matches!(table.use_lease("lease:99", "v"), Err(LeaseError::NoSuchLease(_))));
    release(&mut table, "v");
    table.quarantine(0, "it does not answer");
    assert!(matches!(table.use_lease(&lease.id, "u"), Err(LeaseError::Busy(_))), "nobody new gets it, by whatever name");
}

#[test]
fn a_holder_that_goes_leaves_its_worker_the_lease_until_that_has_ended() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    let lease = table.acquire(&host, &external("engine", json!(0))).unwrap();
    table.use_lease(&lease.id, "w").unwrap();
    assert_eq!(table.give_back(&lease.id), Ok(None));
    assert!(matches!(table.give_back(&lease.id), Err(LeaseError::NoSuchLease(_))), "it was given back");
    assert!(table.acquire(&host, &free("b", json!(0))).is_err());
    release(&mut table, "w");
    assert!(table.leases().is_empty());
    assert!(table.acquire(&host, &free("b", json!(0))).is_ok());
}

#[test]
fn a_workers_lease_is_not_given_back_by_others() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    let lease = table.acquire(&host, &free("w", json!(0))).unwrap();
    assert!(matches!(table.give_back(&lease.id), Err(LeaseError::InUse { .. })));
    assert!(matches!(table.use_lease(&lease.id, "v"), Err(LeaseError::InUse { .. })));
}

#[test]
fn what_was_held_before_a_restart_is_held_again_under_its_name() {
    let (host, mut table) = (host(&[80, 80]), LeaseTable::default());
    table.restore(&host, ("lease:7", "engine"), (&[1], Share::Ways(2))).unwrap();
    assert_eq!(table.leases()[0].holder, "engine");
    assert!(table.restore(&host, ("lease:8", "other"), (&[1], Share::Exclusive)).is_err());
    assert!(table.restore(&host, ("lease:9", "other"), (&[5], Share::Exclusive)).is_err());
    assert_eq!(table.acquire(&host, &free("a", json!("auto"))).unwrap().id, "lease:8", "no number comes twice");
}
