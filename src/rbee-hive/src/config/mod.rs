//! The configuration file: TOML, strict, root's where the hive is root's.
//!
//! Owns its format and defaults. Must never know the command line; options win where the two meet, decided by the caller.

mod gpus;
mod ports;
mod trust;

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub(crate) use gpus::GpuConfig;
pub(crate) use ports::PortRange;
pub(crate) use trust::{TrustError, check_root_owned};

/// What figures may be sampled at: below it costs more than it shows, above it hides what it is for.
const SAMPLE_INTERVALS: std::ops::RangeInclusive<std::time::Duration> =
    std::time::Duration::from_millis(100)..=std::time::Duration::from_secs(60);

/// Everything that `--config` may say. Absent keys have the values of `Config::default()`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether the policy `trusted` may be used (read by the launcher).
    pub(crate) allow_trusted: bool,
    /// Further model directories for every policy (read by the launcher).
    pub(crate) model_dirs: Vec<PathBuf>,
    /// Further binary directories for every policy (read by the launcher).
    pub(crate) binary_dirs: Vec<PathBuf>,
    /// The workers' ports.
    pub(crate) ports: PortRange,
    /// Most workers at one time.
    pub(crate) max_workers: usize,
    /// Sum of the workers' `memory_max`: a size, or `max` (enforced by the launcher).
    pub(crate) memory_total: String,
    /// Spawns, as `N/s` (enforced by the launcher).
    pub(crate) spawn_rate: String,
    /// Uids for workers, as `FIRST-LAST` (used by the launcher).
    pub(crate) worker_uids: String,
    /// How often the figures of all workers are sampled: a time from 100 ms to 1 min.
    pub(crate) sample_interval: String,
    /// Who may call.
    pub(crate) access: AccessConfig,
    /// How GPUs are watched.
    pub(crate) gpus: GpuConfig,
}

/// The table `[access]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessConfig {
    /// Names or uids.
    pub(crate) users: Vec<Account>,
    /// Names or gids; their members may call.
    pub(crate) groups: Vec<Account>,
}

/// An account by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Account {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_trusted: false,
            model_dirs: vec![],
            binary_dirs: vec![],
            ports: PortRange::default(),
            max_workers: 4096,
            memory_total: "max".into(),
            spawn_rate: "1000/s".into(),
            worker_uids: "1879048192-1879113727".into(),
            sample_interval: "1s".into(),
            access: AccessConfig::default(),
            gpus: GpuConfig::default(),
        }
    }
}

impl Config {
    /// Bytes that all workers may be given together; `None` for no bound.
    pub(crate) fn memory_total(&self) -> anyhow::Result<Option<u64>> {
        match self.memory_total.as_str() {
            "max" => Ok(None),
            text => Ok(Some(rbee_hive_policy::units::parse_size(text)?)),
        }
    }

    /// The shortest time between two spawns.
    pub(crate) fn spawn_interval(&self) -> anyhow::Result<std::time::Duration> {
        let rate = self.spawn_rate.strip_suffix("/s").and_then(|n| n.trim().parse::<u32>().ok()).filter(|n| *n > 0);
        let rate = rate.ok_or_else(|| anyhow::anyhow!("spawn_rate {:?} is no rate such as \"1000/s\"", self.spawn_rate))?;
        Ok(std::time::Duration::from_secs(1) / rate)
    }

    /// How often figures are sampled.
    pub(crate) fn sample_interval(&self) -> anyhow::Result<std::time::Duration> {
        let text = &self.sample_interval;
        let interval = rbee_hive_policy::units::parse_duration_ms(text).map(std::time::Duration::from_millis);
        let interval = interval.map_err(|e| anyhow::anyhow!("sample_interval {text:?} is no time such as \"1s\": {e}"))?;
        match SAMPLE_INTERVALS.contains(&interval) {
            true => Ok(interval),
            false => Err(anyhow::anyhow!("sample_interval {text:?} is not between 100ms and 1min: choose one that is")),
        }
    }

    /// The range of uids for workers.
    pub(crate) fn worker_uids(&self) -> anyhow::Result<std::ops::RangeInclusive<u32>> {
        let invalid =
            || anyhow::anyhow!("worker_uids {:?} is no range such as \"1879048192-1879113727\" (and never holds 0)", self.worker_uids);
        let (first, last) = self.worker_uids.split_once('-').ok_or_else(invalid)?;
        let (first, last): (u32, u32) = (first.trim().parse().map_err(|_| invalid())?, last.trim().parse().map_err(|_| invalid())?);
        // Uid 4294967295 means "no change" to setresuid(2).
        if first == 0 || first > last || last == u32::MAX { Err(invalid()) } else { Ok(first..=last) }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Someone else could have written it.
    #[error("refuse the configuration {path:?}")]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TrustError,
    },
    /// Could not be read.
    #[error("read the configuration {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// Not what it must be; the source names line and key.
    #[error("parse the configuration {path:?}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The error.
        source: Box<toml::de::Error>,
    },
}

/// Reads `path`, which as root must be root's on every component.
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    if nix::unistd::geteuid().is_root() {
        check_root_owned(path).map_err(|source| ConfigError::Trust { path: path.into(), source })?;
    }
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    toml::from_str(&text).map_err(|e| ConfigError::Parse { path: path.into(), source: Box::new(e) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_documented_default() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        assert_eq!(Config::default().ports.to_string(), "9100-9199");
    }

    #[test]
    fn an_unknown_key_is_refused_and_named() {
        let error = toml::from_str::<Config>("max_worker = 3").unwrap_err().to_string();
        assert!(error.contains("max_worker") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn a_sample_interval_is_a_time_within_its_bounds() {
        let of = |text: &str| Config { sample_interval: text.into(), ..Config::default() }.sample_interval();
        assert_eq!(Config::default().sample_interval().unwrap(), std::time::Duration::from_secs(1));
        for text in ["100ms", "2s", "1min"] {
            assert!(of(text).is_ok(), "{text}");
        }
        for text in ["", "0s", "99ms", "61s", "-1s", "5", "1 fortnight"] {
            assert!(of(text).unwrap_err().to_string().contains("sample_interval"), "{text}");
        }
    }

    #[test]
    fn accounts_are_names_or_numbers() {
        let config: Config = toml::from_str("[access]\nusers = [\"ada\", 1000]").unwrap();
        assert_eq!(config.access.users, [Account::Name("ada".into()), Account::Id(1000)]);
    }
}
