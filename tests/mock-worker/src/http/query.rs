//! The part of a URL after `?`.
//!
//! Owns: percent decoding. Must never know: which parameters there are.

/// Decoded `name=value` pairs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a raw query string apart; a name without `=` has an empty value.
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        Self(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (decode(name), decode(value))).collect())
    }

    /// The value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The number that `name` holds, or `default` where it is absent or no number.
    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

fn decode(raw: &str) -> String {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match escaped {
            Some(byte) => {
                bytes.push(byte);
                &tail[2..]
            }
            None => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_escapes_are_decoded_and_broken_ones_are_kept() {
        let query = Query::parse("path=%2Fetc%2Fx&n=7&bad=%zz%4&flag");
        assert_eq!(query.get("path"), Some("/etc/x"));
        assert_eq!(query.number("n", 0), 7);
        assert_eq!(query.get("bad"), Some("%zz%4"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.number("absent", 3), 3);
    }
}
