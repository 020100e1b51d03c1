//! What the test has put on the host for the worker to go for: without it, "not there" would prove nothing.

use std::collections::BTreeMap;
use std::sync::OnceLock;

static BAIT: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// Takes `NAME=VALUE` words. The first call counts.
pub(crate) fn set(words: &[String]) {
    let pairs = words.iter().filter_map(|w| w.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned()));
    BAIT.get_or_init(|| pairs.collect());
}

/// One of them.
pub(crate) fn get(name: &str) -> Option<&'static str> {
    BAIT.get()?.get(name).map(String::as_str)
}
