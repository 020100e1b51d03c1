//! Filling `{}` placeholders, in one pass.
//!
//! Owns the rule that inserted text is data: it is never looked at again. Must never know what the text means.

/// The mark that stands for the next context.
const PLACEHOLDER: &str = "{}";

/// Replaces each `{}` of `template` by the next of `contexts`. A placeholder without a context stays; a context without a
/// placeholder is left out.
pub(crate) fn fill(template: &str, contexts: &[String]) -> String {
    let mut contexts = contexts.iter();
    let mut pieces = template.split(PLACEHOLDER);
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        filled.push_str(contexts.next().map_or(PLACEHOLDER, String::as_str));
        filled.push_str(piece);
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::fill;
    use proptest::prelude::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn placeholders_are_filled_in_order() {
        assert_eq!(fill("Starting {} on {}", &texts(&["w-1", "GPU-0"])), "Starting w-1 on GPU-0");
        assert_eq!(fill("{}{}", &texts(&["a", "b"])), "ab");
    }

    #[test]
    fn inserted_text_is_never_expanded_again() {
        assert_eq!(fill("{} then {}", &texts(&["{}", "b"])), "{} then b");
        assert_eq!(fill("{}{}", &texts(&["{", "}"])), "{}");
        assert_eq!(fill("{}} {}", &texts(&["{", "b"])), "{} b");
    }

    #[test]
    fn a_placeholder_without_a_context_stays() {
        assert_eq!(fill("{} and {}", &texts(&["a"])), "a and {}");
        assert_eq!(fill("{}", &[]), "{}");
    }

    #[test]
    fn a_context_without_a_placeholder_is_left_out() {
        assert_eq!(fill("plain", &texts(&["a"])), "plain");
    }

    proptest! {
        #[test]
        fn each_context_appears_verbatim_between_the_pieces(a in ".*", b in ".*") {
            prop_assert_eq!(fill("<{}|{}>", &[a.clone(), b.clone()]), format!("<{a}|{b}>"));
        }
    }
}
