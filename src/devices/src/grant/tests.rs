use super::*;

fn inventory() -> Inventory {
    let text = "[[gpu]]\nindex = 0\nuuid = \"GPU-a\"\nvendor = \"nvidia\"\nnodes = [\"/dev/full\"]\n[[gpu]]\nindex = 1\nvendor = \"nvidia\"\nnodes = [\"/dev/zero\"]\n[shared]\nnodes = [\"/dev/null\"]";
    Inventory::from_simulation(text, "d.toml").unwrap()
}

#[test]
fn a_leased_gpu_brings_its_own_nodes_and_the_shared_ones() {
    let grant = inventory().grant(&["GPU-0".into()]).unwrap();
    assert_eq!((grant.exclusive, grant.shared), (vec!["/dev/full".into()], vec!["/dev/null".into()]));
    assert_eq!((grant.env["CUDA_VISIBLE_DEVICES"].as_str(), grant.cpuset), ("GPU-a", None));
    assert_eq!(
        inventory().grant(&["GPU-1".into()]).unwrap().env["CUDA_VISIBLE_DEVICES"],
        "0",
        "without a UUID its place: nothing else is inside"
    );
    let both = inventory().grant(&["GPU-0".into(), "GPU-1".into()]).unwrap();
    assert_eq!(both.env["CUDA_VISIBLE_DEVICES"], "0,1", "CUDA takes no list of UUIDs and places");
}

#[test]
fn a_worker_without_a_gpu_sees_none() {
    let grant = inventory().grant(&["CPU-0".into()]).unwrap();
    assert_eq!((grant.env["CUDA_VISIBLE_DEVICES"].as_str(), grant.env["NVIDIA_VISIBLE_DEVICES"].as_str()), ("", "void"));
    assert!(grant.exclusive.is_empty() && grant.shared.is_empty() && grant.cpuset.is_some());
    let visible = ["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"];
    assert_eq!(visible.map(|name| grant.env[name].as_str()), ["", "", ""], "an absent one would mean all");
    let of_intel = ["ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR"].map(|name| grant.env[name].as_str());
    assert_eq!(of_intel, ["4095", "!level_zero:*"], "an empty mask would mean all");
}

#[test]
fn what_is_no_canonical_name_is_no_such_device() {
    for bad in ["GPU-9", "CPU-99", "GPU-+0", "GPU-00", "0", "cpu", "", "GPU-a"] {
        let error = inventory().grant(&["GPU-0".into(), bad.into()]).unwrap_err();
        assert!(error.name == bad && error.to_string().contains("CPU-0, ") && error.to_string().contains("GPU-0, GPU-1"), "{error}");
    }
}

#[test]
fn vendors_that_count_what_is_there_are_told_places_and_not_host_indices() {
    let text = "[[gpu]]\nindex = 0\nuuid = \"GPU-n\"\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nuuid = \"GPU-1a\"\nvendor = \"amd\"\n[[gpu]]\nindex = 2\nuuid = \"GPU-2b\"\nvendor = \"amd\"\n[[gpu]]\nindex = 3\nvendor = \"amd\"\n[[gpu]]\nindex = 4\nvendor = \"intel\"\n[shared]\nnodes = [\"/dev/kfd\", \"/dev/nvidiactl\", \"/dev/null\"]\n";
    let host = Inventory::from_simulation(text, "d.toml").unwrap();
    let of = |names: &[&str]| host.grant(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let env = |grant: &Grant| {
        let names = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GGML_VK_VISIBLE_DEVICES"];
        names.map(|name| grant.env[name].clone())
    };
    assert_eq!(env(&of(&["GPU-2"])), ["", "GPU-2b", "0", "4095", "0"]);
    assert_eq!(env(&of(&["GPU-1", "GPU-2"])), ["", "GPU-1a,GPU-2b", "0,1", "4095", "0,1"]);
    assert_eq!(env(&of(&["GPU-2", "GPU-3"])), ["", "0,1", "0,1", "4095", "0,1"], "one UUID is not known");
    assert_eq!(env(&of(&["GPU-4", "GPU-0"])), ["GPU-n", "", "", "0", "0,1"]);
    assert!(!of(&["GPU-4"]).env.contains_key("ONEAPI_DEVICE_SELECTOR"), "SYCL may choose among what there is");
    let shared = |names: &[&str]| of(names).shared.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    assert_eq!(shared(&["GPU-0"]), ["/dev/kfd", "/dev/nvidiactl", "/dev/null"]);
    assert!(shared(&["CPU-0"]).is_empty());
}

#[test]
fn on_a_real_host_each_vendors_shared_nodes_are_for_its_own_gpus() {
    let text = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\n[[gpu]]\nindex = 1\nvendor = \"amd\"\n[[gpu]]\nindex = 2\nvendor = \"intel\"\n";
    let mut host = Inventory::from_simulation(text, "d.toml").unwrap();
    host.source = HOST.into();
    host.shared = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/kfd"].map(PathBuf::from).to_vec();
    let shared = |name: &str| host.grant(&[name.into()]).unwrap().shared.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    assert_eq!(shared("GPU-0"), ["/dev/nvidiactl", "/dev/nvidia-uvm"]);
    assert_eq!(shared("GPU-1"), ["/dev/kfd"]);
    assert!(shared("GPU-2").is_empty());
}

#[test]
fn several_nodes_are_joined_and_one_without_memory_gives_none() {
    let node = |id, cpus: &str, memory_bytes| NumaNode { id, cpus: cpus.into(), memory_bytes, smt_siblings: vec![] };
    let host = Inventory { nodes: vec![node(0, "0-3", None), node(1, "4-7", Some(1)), node(2, "8", Some(0))], ..Inventory::default() };
    let of = |names: &[&str]| host.grant(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).map(|g| (g.cpuset, g.mems)).unwrap();
    assert_eq!(of(&["CPU-0", "CPU-1", "CPU-0", "CPU-2"]), (Some("0-3,4-7,8".into()), Some("0,1".into())));
    assert_eq!(of(&["CPU-2"]), (Some("8".into()), None));
    assert_eq!(of(&[]), (None, None));
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Two nodes; a GPU at each, one at a node without memory, one at no known node.
fn two_nodes() -> Inventory {
    let gpu = |index: u32, numa: &str| format!("[[gpu]]\nindex = {index}\nvendor = \"nvidia\"\n{numa}\n");
    let text = [gpu(0, "numa_node = 0"), gpu(1, "numa_node = 1"), gpu(2, "numa_node = 2"), gpu(3, ""), gpu(4, "numa_node = 9")].concat();
    let node = |id, cpus: &str, memory_bytes| NumaNode { id, cpus: cpus.into(), memory_bytes, smt_siblings: vec![] };
    let nodes = vec![node(0, "0-3", Some(1)), node(1, "4-7", None), node(2, "8", Some(0))];
    Inventory { nodes, ..Inventory::from_simulation(&text, "d.toml").unwrap() }
}

#[test]
fn next_to_gpus_are_their_nodes_cpus_and_memory() {
    let of = |names: &[&str]| two_nodes().near(&named(names));
    assert_eq!(of(&["GPU-1"]), Near { cpuset: Some("4-7".into()), mems: Some("1".into()), unknown: vec![] });
    let both = of(&["GPU-1", "GPU-0"]);
    assert_eq!((both.cpuset.as_deref(), both.mems.as_deref()), (Some("0-3,4-7"), Some("0,1")));
    let memoryless = of(&["GPU-2"]);
    assert_eq!((memoryless.cpuset.as_deref(), memoryless.mems), (Some("8"), None));
    assert_eq!(of(&["CPU-1"]), Near::default(), "the CPU's own lease says that");
}

#[test]
fn a_gpu_whose_node_is_not_known_pins_nothing_and_is_named() {
    let near = two_nodes().near(&named(&["GPU-3", "GPU-4"]));
    assert_eq!((near.cpuset, near.mems), (None, None));
    assert!(near.unknown[0].contains("GPU-3") && near.unknown[1].contains("node 9"), "{:?}", near.unknown);
    let one = two_nodes().near(&named(&["GPU-0", "GPU-3"]));
    assert_eq!((one.cpuset.as_deref(), one.unknown.len()), (Some("0-3"), 1));
}

#[test]
fn parts_of_one_gpu_share_its_node_and_keep_their_capabilities_to_themselves() {
    let mut host = inventory();
    let part = |index, uuid: Option<&str>, cap: &str| Gpu {
        index,
        uuid: uuid.map(str::to_owned),
        nodes: vec!["/dev/full".into(), cap.into()],
        mig: Some(crate::Mig { parent: 0, gpu_instance: index, compute_instance: 0, profile: None }),
        ..host.gpus[0].clone()
    };
    let parts = [part(2, Some("MIG-6f0c"), "/dev/nvidia-caps/nvidia-cap21"), part(3, None, "/dev/nvidia-caps/nvidia-cap30")];
    host.gpus.extend(parts);
    let (second, third) = (host.grant(&named(&["GPU-2"])).unwrap(), host.grant(&named(&["GPU-3"])).unwrap());
    assert_eq!(
        (second.exclusive, third.exclusive),
        (vec!["/dev/nvidia-caps/nvidia-cap21".into()], vec!["/dev/nvidia-caps/nvidia-cap30".into()])
    );
    assert_eq!(second.shared, [PathBuf::from("/dev/null"), PathBuf::from("/dev/full")]);
    assert_eq!((second.env["CUDA_VISIBLE_DEVICES"].as_str(), second.env["CUDA_DEVICE_ORDER"].as_str()), ("MIG-6f0c", "PCI_BUS_ID"));
    assert_eq!(
        (second.env["GGML_VK_VISIBLE_DEVICES"].as_str(), third.env["GGML_VK_VISIBLE_DEVICES"].as_str()),
        ("", ""),
        "no Vulkan on a part"
    );
    assert_eq!(third.env["CUDA_VISIBLE_DEVICES"], "MIG-GPU-a/3/0", "by its parent, for want of a UUID");
    host.gpus[0].uuid = None;
    assert_eq!(host.grant(&named(&["GPU-3"])).unwrap().env["CUDA_VISIBLE_DEVICES"], "", "an index would name another GPU");
    let whole = host.grant(&named(&["GPU-0"])).unwrap();
    assert_eq!(whole.exclusive, [PathBuf::from("/dev/full")]);
}

#[test]
fn the_drivers_files_of_leased_gpus_are_shown_each_once_and_nobody_elses() {
    let mut host = inventory();
    let mount = |host: &str, inside: &str| crate::DriverMount { host: host.into(), inside: inside.into(), options: vec![] };
    host.gpus[0].mounts = vec![mount("/usr/lib/libcuda.so.1", "/usr/lib/libcuda.so.1")];
    host.gpus[1].mounts = vec![mount("/usr/lib/libcuda.so.1", "/usr/lib/libcuda.so.1"), mount("/run/nvidia/s", "/run/nvidia/s")];
    let of = |names: &[&str]| host.grant(&named(names)).unwrap().mounts.len();
    assert_eq!((of(&["GPU-0"]), of(&["GPU-0", "GPU-1"]), of(&["CPU-0"])), (1, 2, 0));
}

#[test]
fn nothing_is_pinned_to_cpus_that_stand_for_placement_alone() {
    let mut host = two_nodes();
    host.placement_only = [1].into();
    host.memory_elsewhere = [0].into();
    let near = host.near(&named(&["GPU-0", "GPU-1"]));
    assert_eq!((near.cpuset.as_deref(), near.mems, near.unknown.len()), (Some("0-3"), None, 1));
}
