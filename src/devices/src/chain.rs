//! An error in one line, its causes after colons, for notes that a person reads.

use std::error::Error;

/// `error` and everything it comes from.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some libraries put the cause into their own text as well.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;
    use crate::DeviceNumbers;

    #[test]
    fn the_cause_follows_the_act() {
        let text = chain(&DeviceNumbers::of("/dev/no-such-node".as_ref()).unwrap_err());
        assert!(text.starts_with("look at device node") && text.contains("No such file"), "{text}");
    }

    #[test]
    fn a_cause_that_its_error_has_told_is_not_told_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("load the library: {0}")]
        struct Twice(#[source] std::fmt::Error);
        assert_eq!(chain(&Twice(std::fmt::Error)), format!("load the library: {}", std::fmt::Error));
    }
}
