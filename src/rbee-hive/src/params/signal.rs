//! A signal by number or name.

use std::str::FromStr as _;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Refusal;

/// Highest signal number on Linux (`SIGRTMAX`).
const LAST_SIGNAL: i64 = 64;

/// Reads `15`, `"15"`, `"TERM"` or `"SIGTERM"`; names the field `signal` in a refusal.
pub(crate) fn parse_signal(given: &Value) -> Result<i32, Refusal> {
    let refuse = || Refusal::params("signal", format!("{given} is no signal: use 1 to {LAST_SIGNAL}, or a name such as \"SIGTERM\""));
    let number = match given {
        Value::Number(n) => n.as_i64(),
        Value::String(text) => text.parse().ok().or_else(|| by_name(text)),
        _ => None,
    };
    number.filter(|n| (1..=LAST_SIGNAL).contains(n)).and_then(|n| i32::try_from(n).ok()).ok_or_else(refuse)
}

fn by_name(text: &str) -> Option<i64> {
    let upper = text.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    Signal::from_str(&full).ok().map(|s| i64::from(s as i32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for given in [json!(15), json!("15"), json!("TERM"), json!("SIGTERM"), json!("sigterm")] {
            assert_eq!(parse_signal(&given).unwrap(), 15, "{given}");
        }
        for bad in [json!(0), json!(65), json!(-9), json!("SIGNOPE"), json!(1.5), json!([9])] {
            assert!(parse_signal(&bad).is_err(), "{bad} was accepted");
        }
    }
}
