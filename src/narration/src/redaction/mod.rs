//! Redaction: secrets leave the hive as `[REDACTED]`.
//!
//! Owns what counts as a secret ([`rules`]) and that a text with a secret is never passed on. It errs on the side of removing too
//! much. Must never know who says the text.

mod rules;

use std::borrow::Cow;

/// Stands where a secret was.
pub const REDACTED: &str = "[REDACTED]";

/// `text` without its secrets: bearer tokens, API keys, JWTs, private keys, passwords (in URLs too).
///
/// If the rules could not be compiled nothing is let through: the result is
/// [`REDACTED`] alone.
pub fn redact(text: &str) -> Cow<'_, str> {
    let Ok(rules) = &*rules::RULES else {
        return Cow::Borrowed(REDACTED);
    };
    let mut clean = Cow::Borrowed(text);
    for rule in rules {
        if let Cow::Owned(replaced) = rule.pattern.replace_all(&clean, rule.replacement) {
            clean = Cow::Owned(replaced);
        }
    }
    clean
}

#[cfg(test)]
mod tests;
