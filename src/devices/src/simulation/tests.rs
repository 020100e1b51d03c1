//! What a simulation may say.

use super::*;

#[test]
fn cpus_stay_the_machines_own_and_gpus_come_by_index() {
    let text = "[[gpu]]\nindex = 3\nvendor = \"amd\"\n[[gpu]]\nindex = 1\nvendor = \"intel\"\n";
    let (simulated, real) = (Inventory::from_simulation(text, "d.toml").unwrap(), Inventory::probe());
    assert_eq!((&simulated.cpus, &simulated.nodes), (&real.cpus, &real.nodes));
    assert_eq!((simulated.gpus.iter().map(|g| g.index).collect::<Vec<_>>(), simulated.source.as_str()), (vec![1, 3], "d.toml"));
    assert!(Inventory::from_simulation("", "d.toml").unwrap().gpus.is_empty(), "a host that plays to have none");
}

#[test]
fn the_documented_example_is_taken_and_a_typo_is_told_with_file_line_and_key() {
    let example = "[[gpu]]\nindex = 0\nuuid = \"GPU-5c0e3b1a-0000-4000-8000-000000000000\"\nvendor = \"nvidia\"\nname = \"Simulated 80 GiB\"\nmemory = \"80GiB\"\npci = \"0000:01:00.0\"\nnuma_node = 0\nnodes = [\"/dev/full\"]\nlinks = { 1 = \"nvlink\" }\n";
    let gpu = Inventory::from_simulation(example, "d.toml").unwrap().gpus.remove(0);
    assert_eq!((gpu.links[&1].as_str(), gpu.numa_node, gpu.name.as_str()), ("nvlink", Some(0), "Simulated 80 GiB"));
    let error = Inventory::from_simulation(&example.replace("memory", "memroy"), "d.toml").unwrap_err().to_string();
    assert!(error.starts_with("d.toml: ") && error.contains("line 6") && error.contains("memroy"), "{error}");
}

#[test]
fn a_simulation_is_strict() {
    let ok = "[[gpu]]\nindex = 0\nuuid = \"GPU-a\"\nvendor = \"nvidia\"\nmemory = \"80GiB\"\nnodes = [\"/dev/full\"]\nlinks = { 1 = \"nvlink\" }\n[shared]\nnodes = [\"/dev/zero\"]\n";
    let inventory = Inventory::from_simulation(ok, "d.toml").unwrap();
    assert_eq!((inventory.gpus.len(), inventory.gpus[0].memory_bytes, inventory.shared.len()), (1, Some(80 << 30), 1));
    for bad in [
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnames = \"x\"",
        "[[gpu]]\nindex = 0\nvendor = \"matrox\"",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnodes = [\"/etc/passwd\"]",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"80\"",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu]]\nindex = 0\nvendor = \"nvidia\"",
        "[[gpu]]\nindex = 0\nuuid = \"GPU-A\"\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nuuid = \"GPU-a\"\nvendor = \"nvidia\"",
        "[[gpu]]\nindex = 4096\nvendor = \"nvidia\"",
        "[[gpu]]\nindex = -1\nvendor = \"nvidia\"",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nuuid = \"GPU-a,GPU-b\"",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"99999999999TiB\"",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnodes = [\"/dev/../etc/passwd\"]",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nlinks = { one = \"nvlink\" }",
        "[[gpu]]\nvendor = \"nvidia\"",
        "[shared]\nnodes = [\"/\"]",
        "[cpu]\ncount = 3",
    ] {
        assert!(Inventory::from_simulation(bad, "d.toml").is_err(), "accepted:\n{bad}");
    }
}

#[test]
fn a_part_has_the_parents_node_and_an_index_after_every_whole_gpu() {
    let text = "[[gpu]]\nindex = 3\nvendor = \"nvidia\"\nnodes = [\"/dev/full\"]\nhangs = true\n[[gpu.mig]]\ngpu_instance = 2\ncompute_instance = 0\nnodes = [\"/dev/zero\"]\n[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0\nprofile = \"1g.10gb\"\nuuid = \"MIG-a\"\nmemory_used = \"1GiB\"\n[[gpu]]\nindex = 5\nvendor = \"amd\"\n";
    let host = Inventory::from_simulation(text, "d.toml").unwrap();
    let told = |g: &Gpu| (g.index, g.partitioned, g.mig.as_ref().map(|m| (m.parent, m.gpu_instance)));
    assert_eq!(
        host.gpus.iter().map(told).collect::<Vec<_>>(),
        [(3, true, None), (5, false, None), (6, false, Some((3, 1))), (7, false, Some((3, 2)))]
    );
    assert_eq!(host.gpus[3].nodes, ["/dev/full", "/dev/zero"].map(PathBuf::from));
    let facts = Simulated::parse(text, "d.toml").unwrap().facts;
    assert!(facts[&6].hangs && facts[&6].memory_used_bytes == Some(1 << 30) && facts[&6].seen().memory_used_bytes.is_none());
}

#[test]
fn simulated_nodes_replace_the_machines_and_nothing_is_pinned_to_what_it_lacks() {
    let text = "[[node]]\nid = 0\ncpus = \"0\"\nmemory = \"1GiB\"\ndistances = { 0 = 10, 900 = 21 }\n[[node]]\nid = 900\ncpus = \"70000,70002\"\nsimulated = true\nsmt_siblings = [\"70000,70002\"]\npackage = 4\n";
    let host = Inventory::from_simulation(&text.replace("70000", "60000").replace("70002", "60002"), "d.toml").unwrap();
    assert_eq!((host.nodes.len(), host.distance(0, 900), host.distance(900, 0)), (2, Some(21), None));
    assert_eq!((host.pinnable_cpus(&host.nodes[0]), host.pinnable_cpus(&host.nodes[1])), (Some("0"), None));
    assert!(!host.has_memory(&host.nodes[1]) && host.packages[&4] == "60000,60002");
    let error = Inventory::from_simulation("[[node]]\nid = 0\ncpus = \"60000\"", "d.toml").unwrap_err().to_string();
    assert!(error.contains("not 60000") && error.contains("simulated = true"), "{error}");
}

#[test]
fn what_changes_is_checked_like_the_rest() {
    let gpu =
        |keys: &str| Simulated::parse(&format!("[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n{keys}"), "d.toml").map(|s| s.facts[&0].clone());
    let facts =
        gpu("memory_used = \"0\"\nprocesses = [{ pid = 7, memory = \"1MiB\" }, { pid = 8 }]\nxid = [{ code = 79, id = \"a\" }]").unwrap();
    assert_eq!((facts.memory_used_bytes, facts.processes.as_ref().map(Vec::len), facts.xids[0].code), (Some(0), Some(2), 79));
    assert!(facts.silent().is_none() && gpu("gone = true").unwrap().silent().is_some());
    for bad in [
        "memory_used = 5",
        "memory_used = \"5\"",
        "processes = [{ pid = 0 }]",
        "processes = [{ pid = 1, name = \"x\" }]",
        "xid = [{ code = 79 }]",
        "xid = [{ code = 79, id = \"\" }]",
        "hangs = 1",
        "mounts = [{ host = \"/proc/1/root\", inside = \"/mnt/a\" }]",
        "mounts = [{ host = \"/usr/lib/a.so\" }]",
    ] {
        assert!(gpu(bad).is_err(), "accepted: {bad}");
    }
    for bad in [
        "[[gpu]]\nindex = 0\nvendor = \"amd\"\n[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0\n[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0",
        "[[gpu]]\nindex = 4095\nvendor = \"nvidia\"\n[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0",
        "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnuma_node = 1\n[[node]]\nid = 0\ncpus = \"0\"",
        "[[node]]\nid = 0\ncpus = \"0\"\n[[node]]\nid = 0\ncpus = \"1\"",
        "[[node]]\nid = 0\ncpus = \"0\"\n[[node]]\nid = 1\ncpus = \"0\"",
        "[[node]]\nid = 0\ncpus = \"\"",
        "[[node]]\nid = 0\ncpus = \"0-\"",
        "[[node]]\nid = 4096\ncpus = \"0\"",
        "[[node]]\nid = 0\ncpus = \"0\"\ndistances = { 1 = 10 }",
        "[[node]]\nid = 0\ncpus = \"0\"\ndistances = { 0 = 9 }",
        "[[node]]\nid = 0\ncpus = \"0\"\nsmt_siblings = [\"0,1\"]",
    ] {
        assert!(Simulated::parse(bad, "d.toml").is_err(), "accepted:\n{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\[\\[(gpu|node|gpu\\.mig)\\]\\]\n|(index|id|cpus|vendor|memory|gpu_instance|compute_instance|distances) = (0|1|4294967295|\"0-3\"|\"nvidia\"|\"1GiB\"|\\{ 0 = 10 \\})\n){0,14}") {
        let _ = Simulated::parse(&text, "d.toml");
    }
}

#[test]
fn a_simulation_without_a_gpu_says_why_there_is_none() {
    let notes = Inventory::from_simulation("", "d.toml").unwrap().notes;
    assert!(notes.iter().any(|n| n.contains("no GPU") && n.contains("d.toml names none")), "{notes:?}");
    assert!(!notes.iter().any(|n| n.contains("GPUs are simulated")), "{notes:?}");
}
