//! Sizes, times, lists and limits, as people write them.

use rbee_hive_policy::units::{NumberList, parse_duration_ms, parse_size};
use rbee_hive_policy::{LimitKey, LimitValue, WorkerId};

pub(crate) fn units(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bytes) = parse_size(text) {
        assert!(text.trim() == "0" || text.trim().len() > 1, "{bytes} without a unit");
    }
    if let Ok(ms) = parse_duration_ms(text) {
        assert!(ms <= 365 * 86_400_000);
    }
    if let Ok(list) = text.parse::<NumberList>() {
        assert_eq!(list.to_string().parse(), Ok(list));
    }
    if let Ok(id) = WorkerId::parse(text) {
        assert!(!id.as_str().contains(['/', '.', '\0']));
    }
    if let Ok((key, value)) = LimitKey::parse_assignment(text) {
        again(key, &value);
    }
    if let Ok(json) = serde_json::from_str(text) {
        for key in LimitKey::ALL {
            if let Ok(value) = key.parse_value(&json) {
                again(key, &value);
            }
        }
    }
}

/// A limit goes from the hive to the launcher as JSON, and is checked there once more: it must not change on the way.
fn again(key: LimitKey, value: &LimitValue) {
    let sent = serde_json::to_value(value).expect("a limit can be encoded");
    let got: LimitValue = serde_json::from_value(sent.clone()).expect("a limit can be decoded");
    assert_eq!(key.parse_value(&sent).as_ref(), Ok(value), "{key:?}");
    assert!(got.within(value) && value.within(&got), "{key:?}: {got:?} is not {value:?}");
}
