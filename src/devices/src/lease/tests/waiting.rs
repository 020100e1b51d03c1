//! The line.

use serde_json::json;

use super::*;

fn patient(holder: &str, mut value: serde_json::Value) -> LeaseRequest {
    value["when_busy"] = json!("queue");
    free(holder, value)
}

fn served(table: &mut LeaseTable, host: &Inventory) -> Vec<(Ticket, Vec<String>)> {
    table.pump(host).into_iter().map(|s| (s.ticket, got(s.outcome))).collect()
}

#[test]
fn who_waits_is_served_in_order() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    let (b, c) = (queued(table.ask(&host, patient("b", json!({})))), queued(table.ask(&host, patient("c", json!({})))));
    assert!(served(&mut table, &host).is_empty());
    release(&mut table, "a");
    assert_eq!(served(&mut table, &host), [(b, vec!["GPU-0".to_owned()])]);
    release(&mut table, "b");
    assert_eq!(served(&mut table, &host), [(c, vec!["GPU-0".to_owned()])]);
}

#[test]
fn a_request_for_many_is_not_starved_by_those_for_few() {
    let (host, mut table) = (host(&[80, 80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    let both = queued(table.ask(&host, patient("both", json!({"count": 2}))));
    let few = queued(table.ask(&host, patient("few", json!({"count": 1}))));
    let error = table.acquire(&host, &free("newcomer", json!("auto"))).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 is held by worker a; GPU-1 is kept for worker both, which waits longer");
    assert!(served(&mut table, &host).is_empty(), "GPU-1 is free, and kept");
    release(&mut table, "a");
    assert_eq!(served(&mut table, &host), [(both, vec!["GPU-0".to_owned(), "GPU-1".to_owned()])]);
    release(&mut table, "both");
    assert_eq!(served(&mut table, &host), [(few, vec!["GPU-0".to_owned()])]);
}

#[test]
fn who_wants_other_gpus_passes() {
    let (host, mut table) = (host(&[80, 80, 80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    queued(table.ask(&host, patient("b", json!({"gpus": [0]}))));
    assert_eq!(got(table.acquire(&host, &free("c", json!(1)))), ["GPU-1"]);
    assert_eq!(got(table.acquire(&host, &free("d", json!("auto")))), ["GPU-2"]);
}

#[test]
fn who_leaves_the_line_frees_the_way() {
    let (host, mut table) = (host(&[80, 80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    let both = queued(table.ask(&host, patient("both", json!({"count": 2}))));
    let few = queued(table.ask(&host, patient("few", json!({"count": 1}))));
    assert!(table.cancel(both) && !table.cancel(both));
    assert_eq!(served(&mut table, &host), [(few, vec!["GPU-1".to_owned()])]);
    assert_eq!(table.waiting(), 0);
}

#[test]
fn a_quarantined_gpu_is_waited_for_and_one_that_vanishes_is_not() {
    let (one, mut table) = (host(&[80]), LeaseTable::default());
    table.quarantine(0, "it does not answer");
    let a = queued(table.ask(&one, patient("a", json!({"gpus": [0]}))));
    let b = queued(table.ask(&one, patient("b", json!({"gpus": [0]}))));
    assert!(served(&mut table, &one).is_empty());
    table.heal(0);
    assert_eq!(served(&mut table, &one), [(a, vec!["GPU-0".to_owned()])]);
    let outcome = table.pump(&host(&[]));
    assert!(
        matches!(outcome.as_slice(), [Served { ticket, outcome: Err(LeaseError::NoSuchDevice { .. }) }] if *ticket == b),
        "{outcome:?}"
    );
}

#[test]
fn who_waits_for_what_is_out_of_use_keeps_the_rest_from_nobody() {
    let (eight, mut table) = (host(&[80; 8]), LeaseTable::default());
    table.quarantine(3, "it does not answer");
    let all = queued(table.ask(&eight, patient("all", json!({"count": 8}))));
    assert_eq!(got(table.acquire(&eight, &free("a", json!("auto")))), ["GPU-0"]);
    assert_eq!(got(table.acquire(&eight, &free("b", json!("GPU-6")))), ["GPU-6"]);
    let behind = queued(table.ask(&eight, patient("c", json!({"gpus": [6]}))));
    release(&mut table, "b");
    assert_eq!(served(&mut table, &eight), [(behind, vec!["GPU-6".to_owned()])], "nor from who stands behind");
    table.heal(3);
    assert!(table.acquire(&eight, &free("d", json!(4))).unwrap_err().to_string().contains("kept for worker all"), "now it is its turn");
    release(&mut table, "a");
    release(&mut table, "c");
    assert_eq!(served(&mut table, &eight)[0].0, all);
}

#[test]
fn who_waits_for_what_a_stranger_has_keeps_the_rest_from_nobody_unless_it_named_that() {
    let (two, mut table) = (host(&[80, 80]), LeaseTable::default());
    table.set_foreign(0, [99].into());
    let both = queued(table.ask(&two, patient("both", json!({"count": 2}))));
    assert_eq!(got(table.acquire(&two, &free("a", json!(1)))), ["GPU-1"]);
    table.cancel(both);
    queued(table.ask(&two, patient("named", json!({"gpus": [0, 1]}))));
    assert!(table.acquire(&two, &free("b", json!(0))).is_err(), "GPU-1 will come free, and the stranger does not matter to who names it");
}

#[test]
fn who_waits_for_memory_that_a_stranger_uses_keeps_the_rest_from_nobody() {
    const GIB: u64 = 1 << 30;
    let (one, mut table) = (host(&[80]), LeaseTable::default());
    let share = |gib: u32| json!({"gpus": [0], "share": {"memory": format!("{gib}GiB")}});
    table.observe(0, Some(70 * GIB));
    let large = queued(table.ask(&one, patient("large", json!({"gpus": [0], "min_memory": "24GiB"}))));
    let larger = queued(table.ask(&one, patient("larger", share(24))));
    assert_eq!(got(table.acquire(&one, &free("a", share(2)))), ["GPU-0"]);
    assert_eq!(got(table.acquire(&one, &free("b", share(2)))), ["GPU-0"], "nor when somebody has a part of the rest");
    table.observe(0, Some(10 * GIB));
    let error = table.acquire(&one, &free("c", share(2))).unwrap_err();
    assert!(error.to_string().contains("kept for worker large"), "the stranger has gone: {error}");
    release(&mut table, "a");
    release(&mut table, "b");
    assert_eq!(served(&mut table, &one), [(large, vec!["GPU-0".to_owned()])]);
    // What a holder uses comes back with its lease.
    table.observe(0, Some(80 * GIB));
    assert!(table.cancel(larger) && served(&mut table, &one).is_empty());
    queued(table.ask(&one, patient("next", json!({"gpus": [0], "min_memory": "24GiB"}))));
    table.observe(0, Some(10 * GIB));
    release(&mut table, "large");
    assert!(table.acquire(&one, &free("d", share(2))).unwrap_err().to_string().contains("kept for worker next"));
}

#[test]
fn links_to_what_is_out_of_use_are_none() {
    let gpu = |n: u32| format!("[[gpu]]\nindex = {n}\nvendor = \"nvidia\"\nnuma_node = {}\nlinks = {{ {} = \"nvlink\" }}\n", n / 2, n ^ 1);
    let host = Inventory::from_simulation(&(0..4).map(gpu).collect::<String>(), "d.toml").unwrap();
    for wish in [json!({"count": 2, "linked": true}), json!({"count": 2, "same_numa": true})] {
        let mut table = LeaseTable::default();
        table.quarantine(0, "it does not answer");
        table.acquire(&host, &free("a", json!(3))).unwrap();
        queued(table.ask(&host, patient("pair", wish.clone())));
        let error = table.acquire(&host, &free("b", json!(2))).unwrap_err();
        assert!(error.to_string().contains("kept for worker pair"), "2 and 3 can become a pair: {error}");
        table.quarantine(3, "nor does this");
        assert_eq!(got(table.acquire(&host, &free("b", json!(2)))), ["GPU-2"], "{wish}");
    }
}

#[test]
fn the_line_has_a_bound() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    table.acquire(&host, &free("a", json!(0))).unwrap();
    for n in 0..MAX_WAITING {
        queued(table.ask(&host, patient(&format!("w{n}"), json!({}))));
    }
    assert_eq!(table.ask(&host, patient("last", json!({}))), Err(LeaseError::QueueFull(MAX_WAITING)));
}
