//! Lists of CPUs and nodes in the kernel's format, `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Highest number: the kernel's NR_CPUS is at most 8192.
const MAX_NUMBER: u32 = 8191;

/// Not a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a list of numbers such as \"0-3,8\"")]
pub struct InvalidList {
    /// What was given.
    pub given: String,
}

/// A set of numbers, shown in its shortest form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberList(pub BTreeSet<u32>);

impl NumberList {
    /// Numbers in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Numbers that `other` lacks.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for NumberList {
    type Err = InvalidList;

    fn from_str(text: &str) -> Result<Self, InvalidList> {
        let invalid = || InvalidList { given: text.chars().take(80).collect() };
        let number = |t: &str| -> Option<u32> {
            (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().ok()).flatten().filter(|n| *n <= MAX_NUMBER)
        };
        let mut set = BTreeSet::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first).ok_or_else(invalid)?, number(last).ok_or_else(invalid)?);
            if first > last {
                return Err(invalid());
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }
}

impl fmt::Display for NumberList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while numbers.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            if first == last {
                write!(f, "{comma}{first}")?
            } else {
                write!(f, "{comma}{first}-{last}")?
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a", "1-", "-1", "3-1", "1,,2", "1 - 2", "8192", "99999999999"] {
            assert!(text.parse::<NumberList>().is_err(), "{text:?} was accepted");
        }
        assert_eq!("0-1,2,5".parse::<NumberList>().map(|l| l.to_string()), Ok("0-2,5".into()));
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same(set in proptest::collection::btree_set(0u32..8192, 1..50)) {
            let list = NumberList(set);
            prop_assert_eq!(list.to_string().parse::<NumberList>(), Ok(list));
        }
    }
}
