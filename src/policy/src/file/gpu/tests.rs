use super::*;
use crate::file::Policy;
use crate::{Enforce, embedded, explain};

fn parse(devices: &str) -> Result<DevicesSection, String> {
    let text = format!("[worker]\nbinary = \"x\"\n[devices]\n{devices}\n");
    let policy = Policy::parse("t", "t.toml", &text, &|name| embedded::fragment(name).map(str::to_owned));
    policy.map(|policy| policy.devices).map_err(|e| e.to_string())
}

#[test]
fn a_policy_that_says_nothing_of_gpus_means_what_it_meant() {
    let old: DevicesSection = serde_json::from_str(r#"{"gpus": "leased", "nodes": []}"#).unwrap();
    assert_eq!(parse("gpus = \"leased\"").unwrap(), old);
    assert_eq!((old.count, old.share, old.affinity, old.mps), (1, GpuShare::Exclusive, Affinity::None, Mps::Off));
    assert_eq!((old.gpu_memory_max, old.vram_min), (None, None));
}

#[test]
fn every_key_is_read_in_its_units() {
    let all = parse(
        "gpus = \"leased\"\ncount = 2\nshare = { ways = 4 }\naffinity = \"device\"\nvram_min = \"16GiB\"\n\
         gpu_memory_max = { value = \"20GiB\", enforce = \"if_available\" }\ngpu_memory_action = \"warn\"\n\
         mps = \"required\"\nmps_active_threads = 25",
    )
    .unwrap();
    assert_eq!((all.count, all.share, all.affinity, all.vram_min), (2, GpuShare::Ways(4), Affinity::Device, Some(16 << 30)));
    assert_eq!(all.gpu_memory_max, Some(Setting { value: 20 << 30, enforce: Enforce::IfAvailable }));
    assert_eq!((all.gpu_memory_action, all.mps, all.mps_active_threads), (GpuMemoryAction::Warn, Mps::Required, Some(25)));
    let plain = parse("gpus = \"leased\"\ngpu_memory_max = \"1GiB\"").unwrap().gpu_memory_max;
    assert_eq!(plain, Some(Setting { value: 1 << 30, enforce: Enforce::Required }), "a plain value is required");
    let read: DevicesSection = serde_json::from_value(serde_json::to_value(&all).unwrap()).unwrap();
    assert_eq!(read, all);
}

#[test]
fn a_share_of_the_memory_is_its_limit_where_nothing_else_is_said() {
    let of = |more: &str| parse(&format!("gpus = \"leased\"\nshare = {{ memory = \"20GiB\" }}\n{more}")).unwrap().gpu_memory_max;
    assert_eq!(of(""), Some(Setting { value: 20 << 30, enforce: Enforce::IfAvailable }));
    assert_eq!(of("gpu_memory_max = \"10GiB\""), Some(Setting { value: 10 << 30, enforce: Enforce::Required }));
}

#[test]
fn numbers_out_of_range_and_wrong_units_are_refused_with_their_line() {
    for (bad, want) in [
        ("count = 0", "devices.count: 0 is not between"),
        ("count = 65", "devices.count: 65 is not between"),
        ("count = -1", "t.toml:4"),
        ("share = \"mine\"", "t.toml:4: share: share is \"exclusive\""),
        ("share = { ways = 1 }", "2 to 64 workers"),
        ("share = { ways = 65 }", "2 to 64 workers"),
        ("share = { ways = 2, memory = \"1GiB\" }", "share is \"exclusive\""),
        ("share = { memory = \"0\" }", "share must not be 0"),
        ("share = { memory = 20 }", "20 is not a size"),
        ("gpu_memory_max = \"20\"", "\"20\" is not a size"),
        ("gpu_memory_max = \"-1GiB\"", "is not a size"),
        ("gpu_memory_max = { value = \"1GiB\", enforce = \"no\" }", "t.toml:4: gpu_memory_max"),
        ("gpu_memory_max = \"0\"", "must not be 0"),
        ("vram_min = \"0\"", "devices.vram_min: 0 asks for nothing"),
        ("mps_active_threads = 0", "not between 1 and 100"),
        ("mps_active_threads = 101", "not between 1 and 100"),
        ("mps = \"on\"", "t.toml:4: mps"),
        ("affinity = \"gpu\"", "t.toml:4: affinity"),
        ("gpu_memory_action = \"kill\"", "t.toml:4: gpu_memory_action"),
    ] {
        let error = parse(bad).unwrap_err();
        assert!(error.contains(want), "{bad}: {want:?} is not in {error:?}");
    }
}

#[test]
fn settings_are_told_as_a_file_would_have_them() {
    let text = "[worker]\nbinary = \"x\"\n[devices]\ngpus = \"leased\"\nshare = { memory = \"20GiB\" }\nvram_min = \"16GiB\"\n";
    let traced = Policy::trace("t", "t.toml", text, &|name| embedded::fragment(name).map(str::to_owned)).unwrap();
    let told: Vec<(String, String, String)> =
        explain::explain(&traced).into_iter().filter(|e| e.setting.starts_with("devices.")).map(|e| (e.setting, e.value, e.from)).collect();
    let row = |key: &str| told.iter().find(|(k, _, _)| k == key).map(|(_, v, from)| (v.as_str(), from.as_str()));
    assert_eq!(row("devices.share"), Some(("{ memory = \"20GiB\" }", "t.toml:5")));
    assert_eq!(row("devices.vram_min"), Some(("16GiB", "t.toml:6")));
    assert_eq!(row("devices.gpu_memory_max"), Some(("20GiB (if_available)", "default")));
    assert_eq!((row("devices.affinity"), row("devices.count")), (Some(("none", "default")), Some(("1", "default"))));
}
