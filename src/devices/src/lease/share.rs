//! How much of a GPU one holder has, and what of it fits beside others.
//!
//! Must never know which GPU it is. The hive and the launcher decide by the same functions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most workers on one GPU: more than its memory has room for.
pub(crate) const MAX_WAYS: u32 = 64;

/// One holder's part of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// All of it.
    #[default]
    Exclusive,
    /// One of so many, 2 to 64, that take turns; nobody counts their memory.
    Ways(u32),
    /// So many bytes of its memory.
    Memory(u64),
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exclusive => f.write_str("exclusively"),
            Self::Ways(n) => write!(f, "shared {n} ways"),
            Self::Memory(bytes) => write!(f, "{} of its memory", size(*bytes)),
        }
    }
}

impl Share {
    /// Whether it fits beside `others` on a GPU of `total` bytes. Modes do not mix, neither do different numbers of ways; a share of memory
    /// whose total is not known fits nowhere.
    pub fn fits(self, others: &[Self], total: Option<u64>) -> bool {
        match self {
            Self::Exclusive => others.is_empty(),
            Self::Ways(n) => others.iter().all(|o| *o == self) && others.len() < n as usize,
            Self::Memory(bytes) => {
                let held = others.iter().try_fold(bytes, |sum, other| match other {
                    Self::Memory(more) => sum.checked_add(*more),
                    _ => None,
                });
                matches!((held, total), (Some(held), Some(total)) if held <= total)
            }
        }
    }

    /// Whether a policy that gives `allowed` gives this: no more sharers than it says, and no more memory.
    pub fn within(self, allowed: Self) -> bool {
        match (self, allowed) {
            (Self::Exclusive, Self::Exclusive | Self::Ways(_)) => true,
            (Self::Ways(asked), Self::Ways(most)) => asked <= most,
            (Self::Memory(asked), Self::Memory(most)) => asked <= most,
            _ => false,
        }
    }

    /// What there is for one holder of a GPU of `total` bytes.
    pub fn part_of(self, total: u64) -> u64 {
        match self {
            Self::Exclusive => total,
            Self::Ways(n) => total / u64::from(n.max(1)),
            Self::Memory(bytes) => bytes,
        }
    }

    /// The bytes that it names.
    pub(super) fn bytes(self) -> Option<u64> {
        if let Self::Memory(bytes) = self { Some(bytes) } else { None }
    }

    /// Whether it is a share at all.
    pub fn is_valid(self) -> bool {
        match self {
            Self::Exclusive => true,
            Self::Ways(n) => (2..=MAX_WAYS).contains(&n),
            Self::Memory(bytes) => bytes > 0,
        }
    }
}

/// Bytes for a person, exact where they are whole MiB or GiB.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        b if b > 0 && b.is_multiple_of(1 << 30) => format!("{} GiB", b >> 30),
        b if b > 0 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b => format!("{b} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::Share::{Exclusive, Memory, Ways};

    #[test]
    fn an_exclusive_holder_excludes_all() {
        assert!(Exclusive.fits(&[], None));
        for other in [Exclusive, Ways(2), Memory(1)] {
            assert!(!Exclusive.fits(&[other], Some(100)) && !other.fits(&[Exclusive], Some(100)), "{other}");
        }
    }

    #[test]
    fn a_gpu_is_shared_by_so_many_and_no_more() {
        assert!(Ways(3).fits(&[], None) && Ways(3).fits(&[Ways(3); 2], None));
        assert!(!Ways(3).fits(&[Ways(3); 3], None));
    }

    #[test]
    fn another_number_of_ways_is_another_mode() {
        assert!(!Ways(2).fits(&[Ways(4)], None) && !Ways(4).fits(&[Ways(2)], None));
        assert!(!Ways(2).fits(&[Memory(1)], Some(9)) && !Memory(1).fits(&[Ways(2)], Some(9)));
    }

    #[test]
    fn shares_of_memory_never_sum_to_more_than_there_is() {
        assert!(Memory(40).fits(&[Memory(60)], Some(100)));
        assert!(!Memory(41).fits(&[Memory(60)], Some(100)));
        assert!(!Memory(u64::MAX).fits(&[Memory(2)], Some(u64::MAX)), "the sum overflows");
        assert!(!Memory(1).fits(&[], None), "of what is not known nothing is shared out");
    }

    #[test]
    fn a_request_shares_with_no_more_and_takes_no_more_than_the_policy_says() {
        assert!(Exclusive.within(Exclusive) && Exclusive.within(Ways(4)) && Ways(2).within(Ways(4)) && Memory(5).within(Memory(5)));
        for (asked, allowed) in [
            (Ways(2), Exclusive),
            (Memory(1), Exclusive),
            (Ways(5), Ways(4)),
            (Memory(6), Memory(5)),
            (Exclusive, Memory(5)),
            (Ways(2), Memory(5)),
        ] {
            assert!(!asked.within(allowed), "{asked} under {allowed}");
        }
    }

    #[test]
    fn one_way_and_no_bytes_are_no_shares() {
        assert!(Exclusive.is_valid() && Ways(2).is_valid() && Memory(1).is_valid());
        assert!(!Ways(0).is_valid() && !Ways(1).is_valid() && !Ways(65).is_valid() && !Memory(0).is_valid());
    }
}
