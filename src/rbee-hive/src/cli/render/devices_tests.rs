//! The picture, as it stands on a terminal.

use rbee_hive_devices::{GpuObservation, Inventory, LeaseTable, Observation};

use super::*;

/// Two packages with a NUMA node each, four GPUs below either, joined in fours; the last is cut into two parts.
const MACHINE: &str = r#"
[[node]]
id = 0
cpus = "0-15,32-47"
memory = "512GiB"
distances = { 0 = 10, 1 = 21 }
smt_siblings = ["0,32", "1,33", "2,34", "3,35", "4,36", "5,37", "6,38", "7,39", "8,40", "9,41", "10,42", "11,43", "12,44", "13,45", "14,46", "15,47"]
simulated = true
[[node]]
id = 1
cpus = "16-31,48-63"
memory = "512GiB"
distances = { 0 = 21, 1 = 10 }
smt_siblings = ["16,48"]
simulated = true
"#;

fn machine() -> Topology {
    let gpu = |n: u32| {
        let four = if n < 4 { 0..4 } else { 4..8 };
        let links: Vec<String> = four.filter(|o| *o != n).map(|o| format!("{o} = \"nvlink\"")).collect();
        let parts = "[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0\nprofile = \"3g.40gb\"\nmemory = \"40GiB\"\n[[gpu.mig]]\ngpu_instance = 2\ncompute_instance = 0\nuuid = \"MIG-2\"\nmemory = \"40GiB\"\n";
        format!(
            "[[gpu]]\nindex = {n}\nvendor = \"nvidia\"\nname = \"Simulated 80 GiB\"\nmemory = \"80GiB\"\npci = \"0000:{:02x}:00.0\"\nnuma_node = {}\nuuid = \"GPU-{n}\"\nlinks = {{ {} }}\n{}",
            n + 1,
            n / 4,
            links.join(", "),
            if n == 7 { parts } else { "" }
        )
    };
    let text = format!("{MACHINE}{}", (0..8).map(gpu).collect::<String>());
    let host = Inventory::from_simulation(&text, "d.toml").unwrap();
    let busy = GpuObservation { silent: None, memory_used_bytes: Some(3 << 30), processes: Some(vec![]), xids: vec![] };
    let hung = GpuObservation { silent: Some("its driver hangs".into()), memory_used_bytes: None, processes: None, xids: vec![] };
    let seen = Observation { gpus: [(0, busy), (1, hung)].into() };
    let mut told: Topology = serde_json::from_value(serde_json::to_value(host.topology(&LeaseTable::default(), &seen)).unwrap()).unwrap();
    told.devices[2].lease = Some("w1".into());
    told
}

const PICTURE: &str = "\
Package 0
  CPU-0    CPUs 0-15,32-47, 512 GiB of memory, for placement alone
           on one core: 0,32 1,33 2,34 3,35 4,36 5,37 6,38 7,39 8,40 9,41 10,42
           11,43 12,44 13,45 14,46 15,47
    GPU-0    Simulated 80 GiB              3 GiB of 80 GiB  0000:01:00.0
             GPU-0, held by w1
    GPU-1    Simulated 80 GiB                       80 GiB  0000:02:00.0
             GPU-1
             does not answer: its driver hangs
    GPU-2    Simulated 80 GiB                       80 GiB  0000:03:00.0
             GPU-2
    GPU-3    Simulated 80 GiB                       80 GiB  0000:04:00.0
             GPU-3
Package 1
  CPU-1    CPUs 16-31,48-63, 512 GiB of memory, for placement alone
           on one core: 16,48
    GPU-4    Simulated 80 GiB                       80 GiB  0000:05:00.0
             GPU-4
    GPU-5    Simulated 80 GiB                       80 GiB  0000:06:00.0
             GPU-5
    GPU-6    Simulated 80 GiB                       80 GiB  0000:07:00.0
             GPU-6
    GPU-7    Simulated 80 GiB                       80 GiB  0000:08:00.0
             GPU-7, leased in parts
      GPU-8    3g.40gb                                40 GiB  0000:08:00.0
      GPU-9    Simulated 80 GiB MIG 2/0               40 GiB  0000:08:00.0
               MIG-2

Between GPUs
            GPU-0    GPU-1    GPU-2    GPU-3    GPU-4    GPU-5    GPU-6    GPU-7
GPU-0           -   nvlink   nvlink   nvlink        -        -        -        -
GPU-1      nvlink        -   nvlink   nvlink        -        -        -        -
GPU-2      nvlink   nvlink        -   nvlink        -        -        -        -
GPU-3      nvlink   nvlink   nvlink        -        -        -        -        -
GPU-4           -        -        -        -        -   nvlink   nvlink   nvlink
GPU-5           -        -        -        -   nvlink        -   nvlink   nvlink
GPU-6           -        -        -        -   nvlink   nvlink        -   nvlink
GPU-7           -        -        -        -   nvlink   nvlink   nvlink        -

From CPUs to memory
            CPU-0    CPU-1
CPU-0          10       21
CPU-1          21       10

Notes
  - the GPUs are simulated
  - the NUMA nodes are simulated
";

#[test]
fn two_nodes_with_eight_gpus_are_a_picture_of_eighty_columns() {
    let text = topology(&machine());
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert_eq!(text, PICTURE, "\n{text}");
}

#[test]
fn a_machine_without_a_gpu_shows_none_and_says_why() {
    let node = Device { id: "CPU-0".into(), kind: "cpu".into(), numa_node: Some(0), cpus: Some("0-1".into()), ..Device::default() };
    let why = "no GPU: there is no /proc/driver/nvidia (NVIDIA's driver is not loaded), and there is no AMD or Intel render node below /sys/class/drm";
    let text = topology(&Topology { devices: vec![node], notes: vec![why.into()], source: "host".into() });
    assert_eq!(
        text,
        "Machine\n  CPU-0    CPUs 0-1, memory not known\nNo GPU\n\nNotes\n  - no GPU: there is no /proc/driver/nvidia (NVIDIA's driver is not loaded), and\n    there is no AMD or Intel render node below /sys/class/drm\n"
    );
}

#[test]
fn a_word_that_is_longer_than_a_line_is_cut_through_and_none_makes_a_line_longer() {
    for length in [1, 66, 67, 68, 69, 70, 500] {
        let text = fold("           ", &format!("{} {}", "x".repeat(length), "y,".repeat(length)));
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{length}: {text}");
        let read: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        assert_eq!(read, format!("{}{}", "x".repeat(length), "y,".repeat(length)));
    }
}

#[test]
fn many_gpus_are_shown_in_blocks_and_too_many_are_counted() {
    let names: Vec<String> = (0..40).map(|n| format!("GPU-{n}")).collect();
    let text = super::super::matrix::matrix(&names.iter().map(String::as_str).collect::<Vec<_>>(), |_, _| Some("nvlink".into()));
    assert!(text.lines().all(|l| l.chars().count() <= WIDTH) && text.ends_with("and 8 more: --json has them all\n"), "{text}");
}
