//! What a secret looks like, one rule per kind, in the order they are applied.
//!
//! Owns the patterns, compiled once. Must never know the texts they are applied to.

use std::sync::LazyLock;

use regex::Regex;

/// A pattern and what stands in its place.
pub(super) struct Rule {
    pub(super) pattern: Regex,
    pub(super) replacement: &'static str,
}

/// The compiled rules, or why one is not a pattern (a mistake in [`SOURCES`]; a test keeps it from happening).
pub(super) static RULES: LazyLock<Result<Vec<Rule>, regex::Error>> = LazyLock::new(|| {
    SOURCES.iter().map(|&(pattern, replacement)| Regex::new(pattern).map(|pattern| Rule { pattern, replacement })).collect()
});

/// Patterns and replacements. The order matters: the whole before its parts, and `Bearer x` before `token=Bearer`, which would take
/// the word and leave the token. Case is ignored for ASCII only (`i-u`): the full tables are not compiled in.
const SOURCES: [(&str, &str); 6] = [
    // A private key; one that has no end, because it was cut, goes to the end of the text.
    (r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\z)", "[REDACTED]"),
    // RFC 3986 user information: up to the last `@` before the path, since passwords with a raw `@` are common.
    (r"(?-u:\b)([A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@]*):[^\s/?#]*@", "${1}:[REDACTED]@"),
    // RFC 6750 bearer tokens, and the other schemes that carry the secret itself.
    (r#"((?i-u:\bbearer)["']?[\s:=]+|(?i-u:\bauthorization)["']?\s*[:=]\s*["']?(?i-u:basic|token|apikey)\s+)[^\s"']+"#, "${1}[REDACTED]"),
    // RFC 7519: three parts (JWT), or five (encrypted), the first a JSON object in base64.
    (r"eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2,4}", "[REDACTED]"),
    // Keys that their issuers mark with a prefix.
    (
        r"(?-u:\b|_)(?:sk-[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{16,}|gh[opsur]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|xox[abeoprs]-[A-Za-z0-9-]{8,}|AKIA[A-Z0-9]{16})",
        "[REDACTED]",
    ),
    // A name that says so, then its value: `api_key=x`, `"apiKey": "x"`, `X-Api-Key: x`, `--api-key x`, `HF_TOKEN=x`, and as Rust
    // prints fields, pairs and argument lists: `token: Some("x")`, `("HF_TOKEN", "x")`, `["--api-key", "x"]`.
    (
        r#"((?i-u:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|token|secret|password|passwd)(?:\\?["']?\s*[=:]\s*|\\?["']\s*,\s*)(?:Some\()?|--(?i-u:(?:[a-z0-9]+-)*(?:api-key|token|password))\s+)(?:"(?:[^"\\]|(?s:\\.))*"|'[^']*'|\\?["']?[^\s"'&]+)"#,
        "${1}[REDACTED]",
    ),
];

#[cfg(test)]
mod tests {
    use super::{RULES, SOURCES};

    #[test]
    fn every_rule_is_a_pattern() {
        assert_eq!(RULES.as_ref().map(Vec::len).map_err(ToString::to_string), Ok(SOURCES.len()));
    }
}
