//! What is granted, and what is refused with which words.

use serde_json::json;

use super::*;

#[test]
fn auto_takes_a_free_gpu_then_is_busy_and_the_cpu_where_there_is_none() {
    let (two, none, mut table) = (host(&[80, 80]), host(&[]), LeaseTable::default());
    let auto = |who: &str| by(who, json!("auto"), Terms::exclusive(GpuDemand::Leased));
    assert_eq!(got(table.acquire(&two, &auto("a"))), ["GPU-0"]);
    assert_eq!(got(table.acquire(&two, &auto("b"))), ["GPU-1"]);
    let error = table.acquire(&two, &auto("c")).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 is held by worker a; GPU-1 is held by worker b");
    release(&mut table, "a");
    assert_eq!(got(table.acquire(&two, &auto("c"))), ["GPU-0"]);
    assert_eq!(got(table.acquire(&none, &auto("d")))[0], "CPU-0");
    assert_eq!(got(table.acquire(&two, &by("e", json!(null), Terms::exclusive(GpuDemand::None))))[0], "CPU-0");
}

#[test]
fn what_the_host_lacks_or_the_policy_withholds_is_refused_and_holds_nothing() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    let mut refused = |value, demand| table.acquire(&host, &by("a", value, Terms::exclusive(demand))).unwrap_err();
    for demand in [GpuDemand::Leased, GpuDemand::None] {
        assert!(matches!(refused(json!(7), demand), LeaseError::NoSuchDevice { .. }));
        assert!(matches!(refused(json!("CPU-77"), demand), LeaseError::NoSuchDevice { .. }));
        assert!(matches!(refused(json!("GPU-a000000f"), demand), LeaseError::NoSuchDevice { .. }));
    }
    assert!(matches!(refused(json!(0), GpuDemand::None), LeaseError::NotGranted { .. }));
    assert!(matches!(refused(json!({"count": 1}), GpuDemand::None), LeaseError::NotGranted { .. }));
    assert!(table.leases().is_empty());
    assert_eq!(got(table.acquire(&host, &free("a", json!("GPU-A0000000")))), ["GPU-0"]);
}

#[test]
fn a_cpu_is_every_ones_and_an_absent_node_is_named_with_what_there_is() {
    let (mut host, mut table) = (host(&[80]), LeaseTable::default());
    let node = host.nodes[0].clone();
    host.nodes = [0, 2].map(|id| crate::NumaNode { id, ..node.clone() }).to_vec();
    for holder in ["a", "b"] {
        assert_eq!(got(table.acquire(&host, &free(holder, json!("cpu")))), ["CPU-0", "CPU-2"]);
        assert_eq!(got(table.acquire(&host, &free(holder, json!("CPU-2")))), ["CPU-2"]);
    }
    let error = table.acquire(&host, &free("a", json!("CPU-1"))).unwrap_err();
    assert_eq!(error.to_string(), "there is no device CPU-1; this host has CPU-0, CPU-2, GPU-0");
}

#[test]
fn a_set_comes_in_the_order_asked_for_all_of_it_or_nothing() {
    let (host, mut table) = (host(&[80, 80, 80]), LeaseTable::default());
    assert_eq!(got(table.acquire(&host, &free("a", json!([2, 0])))), ["GPU-2", "GPU-0"]);
    let error = table.acquire(&host, &free("b", json!([1, 2]))).unwrap_err();
    assert_eq!(error.to_string(), "GPU-2 is held by worker a");
    assert_eq!(table.holder(1), None);
    assert_eq!(table.holder(2), Some("a".into()));
}

#[test]
fn auto_takes_the_smallest_gpu_that_suffices() {
    let (host, mut table) = (host(&[80, 24, 48, 16]), LeaseTable::default());
    assert_eq!(got(table.acquire(&host, &free("a", json!({"min_memory": "20GiB"})))), ["GPU-1"]);
    assert_eq!(got(table.acquire(&host, &free("b", json!({"min_memory": "20GiB"})))), ["GPU-2"]);
    assert_eq!(got(table.acquire(&host, &free("c", json!("auto")))), ["GPU-3"]);
    let by_policy = Terms { vram_min: Some(60 << 30), ..Terms::unbounded() };
    assert_eq!(got(table.acquire(&host, &by("d", json!("auto"), by_policy))), ["GPU-0"], "what the policy needs counts as well");
}

#[test]
fn what_is_used_by_a_stranger_is_not_free() {
    let (host, mut table) = (host(&[24, 80]), LeaseTable::default());
    table.observe(0, Some(10 << 30));
    assert_eq!(got(table.acquire(&host, &free("a", json!({"min_memory": "20GiB"})))), ["GPU-1"]);
    let error = table.acquire(&host, &free("b", json!({"gpus": [0], "min_memory": "20GiB"}))).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 has 14 GiB free, and 20 GiB are needed");
    table.observe(0, None);
    assert_eq!(got(table.acquire(&host, &free("b", json!({"gpus": [0], "min_memory": "20GiB"})))), ["GPU-0"]);
}

#[test]
fn a_model_that_can_never_fit_is_refused_and_not_made_to_wait() {
    let (host, mut table) = (host(&[24, 48]), LeaseTable::default());
    let terms = Terms { vram_min: Some(40 << 30), ..Terms::exclusive(GpuDemand::Leased) };
    let error = table.acquire(&host, &by("a", json!(0), terms)).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 has 24 GiB, and 40 GiB are needed");
    let error = table.acquire(&host, &free("a", json!({"min_memory": "1TiB", "when_busy": "queue"}))).unwrap_err();
    assert!(error.to_string().starts_with("there are not 1 GPUs with 1024 GiB; this host has CPU-0"), "{error}");
    let halves = Terms { share: Some(Share::Ways(2)), ..terms };
    assert!(matches!(table.acquire(&host, &by("a", json!(1), halves)), Err(LeaseError::TooSmall { .. })), "half of 48 GiB is not 40");
}

#[test]
fn constraints_choose_among_vendors_names_and_nodes() {
    let text = "[[gpu]]\nindex = 0\nvendor = \"amd\"\nname = \"MI300\"\nnuma_node = 0\n[[gpu]]\nindex = 1\nvendor = \"nvidia\"\nname = \"H100\"\nnuma_node = 0\n\
                [[gpu]]\nindex = 2\nvendor = \"nvidia\"\nname = \"L4\"\nnuma_node = 1\n";
    let host = Inventory::from_simulation(text, "d.toml").unwrap();
    for (wish, want) in [
        (json!({"vendor": "nvidia"}), "GPU-1"),
        (json!({"name": "l4"}), "GPU-2"),
        (json!({"numa_node": 1}), "GPU-2"),
        (json!({"exclude": [0, 1]}), "GPU-2"),
        (json!({"vendor": "nvidia", "exclude": [1]}), "GPU-2"),
    ] {
        assert_eq!(got(LeaseTable::default().acquire(&host, &free("a", wish.clone()))), [want], "{wish}");
    }
    for (wish, said) in [
        (json!({"vendor": "intel"}), "not 1 GPUs of vendor intel"),
        (json!({"count": 2, "linked": true}), "not 2 GPUs that are all linked"),
        (json!({"count": 2, "same_numa": true, "vendor": "nvidia"}), "at one NUMA node"),
        (json!({"count": 4}), "not 4 GPUs that can be leased"),
        (json!({"gpus": [0], "vendor": "nvidia"}), "GPU-0 is asked for, and it is none of vendor nvidia"),
        (json!({"share": {"memory": "1GiB"}, "gpus": [0]}), "tells no size of its memory"),
    ] {
        let error = LeaseTable::default().acquire(&host, &free("a", wish)).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn one_gpu_by_two_names_is_a_contradiction() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    for wish in [json!({"gpus": [0, "GPU-a0000000"]}), json!({"gpus": [0], "exclude": ["GPU-a0000000"]}), json!(["GPU-a0000000"])] {
        let outcome = table.acquire(&host, &free("a", wish.clone()));
        assert_eq!(matches!(outcome, Err(LeaseError::Contradiction { .. })), wish.is_object(), "{wish}: {outcome:?}");
    }
}

#[test]
fn a_partitioned_gpu_names_its_parts() {
    let mut host = host(&[80, 40]);
    host.gpus[0].partitioned = true;
    host.gpus[1].mig = Some(crate::Mig { parent: 0, gpu_instance: 1, compute_instance: 0, profile: None });
    let mut table = LeaseTable::default();
    let error = table.acquire(&host, &free("a", json!(0))).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 is cut into MIG parts: lease GPU-1");
    assert_eq!(got(table.acquire(&host, &free("a", json!("auto")))), ["GPU-1"]);
    assert_eq!(table.state(&host.gpus[0]).0, GpuState::Partitioned);
}

#[test]
fn several_mig_parts_are_no_set_that_a_process_could_use() {
    let mut host = host(&[80, 40, 40]);
    host.gpus[0].partitioned = true;
    for n in [1, 2] {
        host.gpus[n].mig = Some(crate::Mig { parent: 0, gpu_instance: n as u32, compute_instance: 0, profile: None });
    }
    let mut table = LeaseTable::default();
    let error = table.acquire(&host, &free("a", json!({"count": 2}))).unwrap_err();
    assert!(matches!(error, LeaseError::NoSuchSet { .. }) && error.to_string().contains("MIG parts left out"), "{error}");
    let two = Terms { count: 2, ..Terms::exclusive(GpuDemand::Leased) };
    assert!(matches!(table.acquire(&host, &by("a", json!("auto"), two)), Err(LeaseError::NoSuchSet { .. })));
    let error = table.acquire(&host, &free("a", json!([1, 2]))).unwrap_err();
    assert!(matches!(error, LeaseError::Contradiction { .. }) && error.to_string().contains("GPU-1 is a MIG part"), "{error}");
    for (who, n) in [("a", 1), ("b", 2)] {
        assert_eq!(got(table.acquire(&host, &free(who, json!(n)))).len(), 1, "one by one they are");
    }
}

#[test]
fn how_a_gpu_is_shared_is_the_policys_to_say() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    let ways = Terms { share: Some(Share::Ways(2)), ..Terms::unbounded() };
    let whole = Terms::exclusive(GpuDemand::Leased);
    let error = table.acquire(&host, &by("a", json!({"share": {"ways": 2}}), whole)).unwrap_err();
    assert_eq!(error.to_string(), "a GPU shared 2 ways is asked for, and the policy gives it exclusively");
    assert!(matches!(table.acquire(&host, &by("a", json!({"share": {"ways": 3}}), ways)), Err(LeaseError::ShareNotGranted { .. })));
    for holder in ["a", "b"] {
        assert_eq!(table.acquire(&host, &by(holder, json!("auto"), ways)).unwrap().share, Share::Ways(2), "where the request says nothing");
    }
    let error = table.acquire(&host, &by("c", json!(0), ways)).unwrap_err();
    assert_eq!(error.to_string(), "GPU-0 is held by worker a (shared 2 ways), worker b (shared 2 ways)");
    assert!(table.acquire(&host, &by("c", json!(0), whole)).is_err(), "modes do not mix");
    assert_eq!(table.state(&host.gpus[0]).0, GpuState::Shared);
}

#[test]
fn shares_of_memory_fill_the_fullest_gpu_first() {
    let (host, mut table) = (host(&[80, 80]), LeaseTable::default());
    let take =
        |table: &mut LeaseTable, who: &str, gib: u32| table.acquire(&host, &free(who, json!({"share": {"memory": format!("{gib}GiB")}})));
    assert_eq!(got(take(&mut table, "a", 30)), ["GPU-0"]);
    assert_eq!(got(take(&mut table, "b", 30)), ["GPU-0"], "the other one stays whole");
    assert_eq!(got(take(&mut table, "c", 30)), ["GPU-1"]);
    assert_eq!(table.free_bytes(&host.gpus[0]), Some(20 << 30));
    assert_eq!(got(take(&mut table, "d", 20)), ["GPU-0"]);
    assert!(matches!(take(&mut table, "e", 81), Err(LeaseError::TooSmall { .. } | LeaseError::NoSuchSet { .. })));
}

#[test]
fn leases_without_a_worker_are_bounded() {
    let (host, mut table) = (host(&[80]), LeaseTable::default());
    let cpu = || LeaseRequest { holder: Holder::External("e".into()), spec: DeviceSpec::AnyCpu, terms: Terms::unbounded() };
    for _ in 0..MAX_EXTERNAL {
        table.ask(&host, cpu()).unwrap();
    }
    assert_eq!(table.ask(&host, cpu()), Err(LeaseError::TooMany(MAX_EXTERNAL)));
    table.give_back("lease:1").unwrap();
    assert!(table.ask(&host, cpu()).is_ok());
    table.give_back("lease:2").unwrap();
    table.give_back("lease:3").unwrap();
    table.acquire(&host, &free("w", json!(0))).unwrap();
    let waits = || external("e", json!({"count": 1, "when_busy": "queue"}));
    assert!(matches!(table.ask(&host, waits()), Ok(Asked::Queued { .. })) && matches!(table.ask(&host, waits()), Ok(Asked::Queued { .. })));
    assert_eq!(table.ask(&host, cpu()), Err(LeaseError::TooMany(MAX_EXTERNAL)), "who waits counts");
}

#[test]
fn a_gpu_that_strangers_use_is_only_for_who_names_it() {
    let (one, mut table) = (host(&[80]), LeaseTable::default());
    table.set_foreign(0, [99].into());
    let error = table.acquire(&one, &free("a", json!("auto"))).unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("processes of others (99)"), "{error}");
    assert!(table.acquire(&one, &free("a", json!({"count": 1}))).is_err());
    assert_eq!(got(table.acquire(&one, &free("a", json!(0)))), ["GPU-0"]);
    release(&mut table, "a");
    table.set_foreign(0, [].into());
    assert_eq!(got(table.acquire(&one, &free("a", json!("auto")))), ["GPU-0"]);
}

#[test]
fn a_policy_that_asks_for_so_much_of_a_gpu_is_not_served_by_the_cpu() {
    let none = Inventory { gpus: vec![], ..host(&[8]) };
    let terms = Terms { vram_min: Some(12 << 30), ..Terms::exclusive(GpuDemand::Leased) };
    let refused = LeaseTable::default().acquire(&none, &by("w", json!("auto"), terms)).unwrap_err();
    assert!(matches!(refused, LeaseError::NoSuchSet { .. }) && refused.to_string().contains("with 12 GiB"), "{refused}");
    assert_eq!(got(LeaseTable::default().acquire(&none, &by("w", json!("cpu"), terms))).len(), none.nodes.len(), "as asked");
    let demands_nothing = Terms { demand: GpuDemand::None, ..terms };
    assert!(LeaseTable::default().acquire(&none, &by("w", json!("auto"), demands_nothing)).is_ok());
}

#[test]
fn a_share_that_no_gpu_has_is_named() {
    let refused = LeaseTable::default().acquire(&host(&[8, 16]), &free("w", json!({"share": {"memory": "17GiB"}}))).unwrap_err();
    assert!(refused.to_string().contains("with 17 GiB"), "{refused}");
}
