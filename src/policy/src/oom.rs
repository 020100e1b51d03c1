//! What follows when a worker runs out of memory, and when it is told that it is about to.
//!
//! Must never know: which kernel interface carries it out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::plan::Enforce;
use crate::units::parse_duration_ms;

/// Shares of time are measured over at least this: the kernel gives shorter windows to nobody but the privileged (Documentation/accounting/psi.rst).
const WINDOW_STEP_MS: u64 = 2_000;
/// The kernel's longest window.
const MAX_WINDOW_MS: u64 = 10_000;

/// What follows when the kernel has killed one of a worker's processes for want of memory; the words are systemd's (`OOMPolicy=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOom {
    /// It is told, and the worker goes on unless it was its own process.
    #[default]
    Continue,
    /// The worker is stopped, by its signal and with its grace.
    Stop,
    /// All of it is killed: by the kernel (`memory.oom.group`) where it can, by the init where not.
    Kill,
}

/// How long some task has to have waited for memory, in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StallTrigger {
    /// Milliseconds of waiting.
    pub stall_ms: u64,
    /// Milliseconds of the window, a multiple of 2,000.
    pub window_ms: u64,
}

/// Not such a trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no share of time such as \"150ms/2s\": {why}")]
pub struct InvalidTrigger {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for StallTrigger {
    type Err = InvalidTrigger;

    fn from_str(text: &str) -> Result<Self, InvalidTrigger> {
        let wrong = |why| InvalidTrigger { given: text.chars().take(40).collect(), why };
        let (stall, window) = text.split_once('/').ok_or_else(|| wrong("a time of waiting, a slash, and a window are needed"))?;
        let time = |text: &str| parse_duration_ms(text).map_err(|_| wrong("both are times with a unit"));
        let (stall_ms, window_ms) = (time(stall)?, time(window)?);
        if window_ms == 0 || window_ms > MAX_WINDOW_MS || !window_ms.is_multiple_of(WINDOW_STEP_MS) {
            return Err(wrong("the window is 2s, 4s, 6s, 8s or 10s"));
        }
        if stall_ms == 0 || stall_ms > window_ms {
            return Err(wrong("the time of waiting is at least 1ms, and at most the window"));
        }
        Ok(Self { stall_ms, window_ms })
    }
}

impl fmt::Display for StallTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms/{}s", self.stall_ms, self.window_ms / 1_000)
    }
}

/// When a worker that is short of memory is told to be, before the kernel kills anything: near its limits always, and by a trigger on
/// waiting where the policy has one. A trigger is not the default, because taking one down waits for the kernel's RCU: 15 to 20 ms at the
/// end of each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PressurePlan {
    /// `None`: near its limits alone.
    pub memory: Option<StallTrigger>,
    /// Whether a host that can't tell refuses the worker.
    pub enforce: Enforce,
}

impl Default for PressurePlan {
    fn default() -> Self {
        Self { memory: None, enforce: Enforce::IfAvailable }
    }
}

impl PressurePlan {
    /// `memory` as the file has it.
    pub fn memory_word(&self) -> String {
        self.memory.map_or_else(|| "limits".to_owned(), |trigger| trigger.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_trigger_is_a_part_of_a_window_that_everybody_may_have() {
        assert_eq!("150ms/2s".parse(), Ok(StallTrigger { stall_ms: 150, window_ms: 2_000 }));
        assert_eq!("2s / 10s".parse(), Ok(StallTrigger { stall_ms: 2_000, window_ms: 10_000 }));
        for text in
            ["", "150ms", "150/2s", "150ms/2", "0/2s", "3s/2s", "150ms/1s", "150ms/3s", "150ms/12s", "150ms/0", "1ms/2s/3s", "-1ms/2s"]
        {
            assert!(text.parse::<StallTrigger>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_again(step in 1u64..=5, part in 1u64..=1_000) {
            let window_ms = step * WINDOW_STEP_MS;
            let trigger = StallTrigger { stall_ms: (window_ms * part / 1_000).max(1), window_ms };
            prop_assert_eq!(trigger.to_string().parse(), Ok(trigger));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,30}") {
            let _ = text.parse::<StallTrigger>();
        }
    }
}
