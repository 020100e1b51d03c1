//! The table `[gpus]`: how GPUs are watched.

use std::path::PathBuf;
use std::time::Duration;

use rbee_hive_policy::units::parse_duration_ms;
use rbee_hive_worker_lifecycle::Patience;
use serde::{Deserialize, Deserializer, de};

/// More often would keep a driver busy.
const SHORTEST: Duration = Duration::from_millis(100);
/// Seldomer, a client's question would make a look of its own, and get to see faults that are told once.
const LONGEST: Duration = Duration::from_secs(4);

/// The table `[gpus]`. Times have units, such as `"2s"`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GpuConfig {
    /// The time between two looks, 100 ms to 4 s.
    #[serde(deserialize_with = "interval")]
    pub(crate) watch_interval: Duration,
    /// How long an ended worker's memory may take to come back; after that the GPU is taken out of use.
    #[serde(deserialize_with = "time")]
    pub(crate) memory_back: Duration,
    /// How long a worker may be over its limit of GPU memory, where that is only watched, before it is stopped.
    #[serde(deserialize_with = "time")]
    pub(crate) over_limit: Duration,
    /// The path of NVIDIA's `nvidia-cuda-mps-control`; without it the PATH is searched (used by the launcher).
    pub(crate) mps_control: Option<PathBuf>,
}

impl Default for GpuConfig {
    fn default() -> Self {
        let Patience { memory_back, over_limit } = Patience::default();
        Self { watch_interval: Duration::from_secs(2), memory_back, over_limit, mps_control: None }
    }
}

impl GpuConfig {
    /// Both times that are waited.
    pub(crate) fn patience(&self) -> Patience {
        Patience { memory_back: self.memory_back, over_limit: self.over_limit }
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration_ms(&text).map(Duration::from_millis).map_err(de::Error::custom)
}

fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let asked = time(deserializer)?;
    match (SHORTEST..=LONGEST).contains(&asked) {
        true => Ok(asked),
        false => Err(de::Error::custom("watch_interval is not between \"100ms\" and \"4s\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_looks_have_a_pause() {
        let read = |text: &str| toml::from_str::<GpuConfig>(text);
        assert_eq!(read("").unwrap(), GpuConfig::default());
        let all = read("watch_interval = \"500ms\"\nmemory_back = \"1min\"\nover_limit = \"0\"").unwrap();
        assert_eq!((all.watch_interval.as_millis(), all.memory_back.as_secs(), all.over_limit.as_secs()), (500, 60, 0));
        for bad in [
            "watch_interval = \"99ms\"",
            "watch_interval = \"5s\"",
            "watch_interval = \"0\"",
            "memory_back = 30",
            "over_limit = \"-1s\"",
            "often = \"1s\"",
        ] {
            assert!(read(bad).is_err(), "{bad} was accepted");
        }
    }
}
