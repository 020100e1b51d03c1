//! What `scripts/test-gpu` compares, without a GPU: a check that passes whatever it is told shows nothing.

#![allow(clippy::expect_used, reason = "a script that can't be run ends its test")]

use std::path::Path;
use std::process::Command;

use serde_json::json;
use test_support::skip;

/// Whether the check takes it that a process that tells `uuid` has the device that was leased as `leased`, and what it says.
fn takes(uuid: &str, of_part: bool, leased: &str) -> (bool, String) {
    let told =
        json!({"library": null, "cuInit": 0, "count": 1, "uuid": uuid, "uuid_of_part": of_part, "allocate": 0, "written": 0, "others": {}});
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), told.to_string()).expect("write what was told");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lib/gpu_checks.py");
    let output = Command::new("python3").arg("-B").arg(script).arg("leased").arg(file.path()).arg(leased).output().expect("run the check");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_part_of_a_gpu_is_compared_like_a_whole_one() {
    if Command::new("python3").arg("--version").output().is_err() {
        skip!("python3");
    }
    let (own, other) = ("5c0e3b1a-0000-4000-8000-00000000000a", "5c0e3b1a-0000-4000-8000-00000000000b");
    for kind in ["GPU", "MIG"] {
        let leased = format!("{kind}-{}", own.to_uppercase());
        assert_eq!(takes(own, true, &leased), (true, String::new()), "{leased}");
        let (taken, said) = takes(other, true, &leased);
        assert!(!taken && said.contains("it sees"), "{leased}: {said}");
    }
    for (of_part, leased) in [(false, format!("MIG-{own}")), (true, format!("MIG-GPU-{own}/1/0")), (true, "None".to_owned())] {
        let (taken, said) = takes(own, of_part, &leased);
        assert!(!taken && said.contains("can't be compared"), "{leased}: {said}");
    }
}
