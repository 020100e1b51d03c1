//! Rules of limits and their values.

use serde_json::json;

use super::*;

#[test]
fn values_are_in_the_kernels_units_or_refused() {
    use LimitKey::*;
    let ok = [
        (MemoryMax, json!("64MiB"), LimitValue::Count(64 << 20)),
        (MemoryMax, json!(4096), LimitValue::Count(4096)),
        (MemoryMax, json!("max"), LimitValue::max()),
        (SwapMax, json!(0), LimitValue::Count(0)),
        (MemoryLow, json!(0), LimitValue::Count(0)),
        (PidsMax, json!(4_194_304), LimitValue::Count(4_194_304)),
        (Cpus, json!(1.5), LimitValue::Decimal(1.5)),
        (Cpuset, json!("0,1,2"), LimitValue::Text("0-2".into())),
        (CoreSize, json!(0), LimitValue::Count(0)),
        (CpuTime, json!("1min"), LimitValue::Count(60)),
        (CpuBurst, json!("20ms"), LimitValue::Count(20_000)),
        (CpuBurst, json!("500us"), LimitValue::Count(500)),
        (IoWeight, json!(50), LimitValue::Count(50)),
        (CgroupDepth, json!(0), LimitValue::Count(0)),
        (IoMax, json!("8:16 wbps=max;8:0  wiops=max riops=100 rbps=10MiB"), LimitValue::Text("8:0 rbps=10MiB riops=100".into())),
        (IoMax, json!("/dev/vda wbps=1M"), LimitValue::Text("/dev/vda wbps=1000000B".into())),
        (IoMax, json!("8:0 rbps=max"), LimitValue::max()),
        (Hugetlb, json!("1GiB=0;2MiB=1GiB"), LimitValue::Text("2MiB=1GiB; 1GiB=0".into())),
        (Hugetlb, json!("max"), LimitValue::max()),
        (Dmem, json!("drm/0000:03:00.0/vram0=8GiB"), LimitValue::Text("drm/0000:03:00.0/vram0=8GiB".into())),
    ];
    for (key, given, want) in ok {
        assert_eq!(key.parse_value(&given), Ok(want), "{given}");
    }
    let bad = [
        (MemoryMax, json!(-1)),
        (MemoryMax, json!(0)),
        (PidsMax, json!(0)),
        (PidsMax, json!(1.5)),
        (PidsMax, json!(4_194_305)),
        (MemoryLow, json!("max")),
        (PidsMax, json!("64MiB")),
        (Cpus, json!(0)),
        (Cpus, json!(-2)),
        (Cpuset, json!(3)),
        (Cpuset, json!("x")),
        (MemoryMax, json!(null)),
        (MemoryMax, json!([1])),
        (CpuWeight, json!(20000)),
        (CpuTime, json!("1 parsec")),
        (StackSize, json!(0)),
    ];
    for (key, given) in bad {
        assert!(key.parse_value(&given).is_err(), "{} {given} was accepted", key.name());
    }
    assert_eq!(LimitKey::parse_assignment("cpus=1.5"), Ok((Cpus, LimitValue::Decimal(1.5))));
    assert!(LimitKey::parse_assignment("address_space=1GiB").is_err_and(|e| e.to_string().contains("memory_max bounds what is used")));
    assert!(LimitKey::parse_assignment("memory_maks=1").is_err_and(|e| e.to_string().contains("memory_max")));
}

#[test]
fn bounds_by_name_name_each_thing_once_and_bound_it() {
    use LimitKey::*;
    let bad = [
        (CpuBurst, json!("max")),
        (CpuBurst, json!("20 parsecs")),
        (IoWeight, json!("max")),
        (IoWeight, json!(0)),
        (IoMax, json!(5)),
        (IoMax, json!("")),
        (IoMax, json!("8:0")),
        (IoMax, json!("8:0 rbps=0")),
        (IoMax, json!("8:0 rbps=100")),
        (IoMax, json!("8:0 riops=1MiB")),
        (IoMax, json!("8:0 riops=4294967295")),
        (IoMax, json!("8:0 rbps=1MiB rbps=2MiB")),
        (IoMax, json!("8:0 rbps=1MiB; 8:0 wbps=1MiB")),
        (IoMax, json!("8:0 speed=1MiB")),
        (IoMax, json!("sda rbps=1MiB")),
        (IoMax, json!("/etc/passwd rbps=1MiB")),
        (IoMax, json!("/dev/../etc/passwd rbps=1MiB")),
        (IoMax, json!("8:0 rbps=1MiB;")),
        (Hugetlb, json!("3MiB=1GiB")),
        (Hugetlb, json!("2MiB=1MiB")),
        (Hugetlb, json!("2MiB=64")),
        (Hugetlb, json!("2MiB=1GiB; 2MiB=0")),
        (Dmem, json!("=1GiB")),
        (Dmem, json!("a b=1GiB")),
        (CgroupDepth, json!(-1)),
    ];
    for (key, given) in bad {
        let refused = key.parse_value(&given);
        assert!(refused.is_err_and(|e| e.to_string().starts_with(key.name())), "{} {given} was accepted", key.name());
    }
}

#[test]
fn less_is_within_more() {
    assert!(LimitValue::Count(1).within(&LimitValue::max()) && !LimitValue::max().within(&LimitValue::Count(1)));
    let text = |text: &str| LimitValue::Text(text.into());
    assert!(text("8:0 rbps=1MiB wbps=1MiB").within(&text("8:0 rbps=2MiB")), "what is bounded besides is no more");
    assert!(!text("8:0 wbps=1MiB").within(&text("8:0 rbps=2MiB")), "the bound of reading is gone");
    assert!(!text("8:0 rbps=3MiB").within(&text("8:0 rbps=2MiB")) && text("8:0 rbps=3MiB").within(&LimitValue::max()));
    assert!(!LimitValue::max().within(&text("2MiB=1GiB")) && text("2MiB=0; 1GiB=0").within(&text("2MiB=1GiB")));
    assert!(LimitValue::Text("1".into()).within(&LimitValue::Text("0-3".into())));
    assert!(!LimitValue::Text("4".into()).within(&LimitValue::Text("0-3".into())));
}

proptest::proptest! {
    #[test]
    fn bounds_by_name_never_panic_and_read_back_as_themselves(text in "(8:[0-9]|/dev/[a-z]{1,3}|[ -~]{0,9})( (rbps|wbps|riops|wiops)=[0-9a-zA-Z]{0,6}){0,4}[;]?[ -~]{0,12}") {
        for key in [LimitKey::IoMax, LimitKey::Hugetlb, LimitKey::Dmem] {
            if let Ok(value) = key.parse_value(&json!(text)) {
                let again = serde_json::to_value(&value).unwrap();
                proptest::prop_assert_eq!(key.parse_value(&again), Ok(value.clone()));
                proptest::prop_assert!(value.within(&value));
            }
        }
    }
}
