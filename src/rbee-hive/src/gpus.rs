//! The machine's GPUs: found, looked at while the hive runs, and asked for by a helper that may hang in its place.
//!
//! Must never know: who has which.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rbee_hive_devices::{Inventory, KernelLog, Observation, Observer, ObserverCache};
use rbee_hive_worker_lifecycle::Observe;

/// How long the NVML helper may take before its driver counts as hung.
pub(crate) const NVML_DEADLINE: Duration = Duration::from_secs(10);
/// How old what was seen of GPUs may be before a client's question makes a new look.
const OBSERVED_FOR: Duration = Duration::from_secs(5);

/// Who looks at the GPUs of `inventory`. Opens the kernel's log, which only root may read on most hosts: before privileges are dropped.
pub(crate) fn observer(inventory: &Inventory) -> ObserverCache {
    let observer = Observer::new(inventory.clone(), nvml_helper_command(), NVML_DEADLINE);
    ObserverCache::new(observer.with_kernel_log(KernelLog::open()), OBSERVED_FOR)
}

pub(crate) fn nvml_helper_command() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), "nvml-helper".into()]
}

/// Looks at the GPUs, and tells the log once when nothing of them can be seen any more, and once when it can again.
pub(crate) fn looking(observer: Arc<ObserverCache>) -> Observe {
    let told = Mutex::new(None);
    Arc::new(move || {
        let seen = Observation::clone(&observer.look());
        let (blind, mut told) = (observer.blind(), told.lock().unwrap_or_else(PoisonError::into_inner));
        match &blind {
            why if *why == *told => {}
            Some(why) => tracing::error!(why, "no GPU can be looked at: those that are being released stay so until one can"),
            None => tracing::info!("the GPUs are looked at again"),
        }
        *told = blind;
        seen
    })
}

/// This host's devices, or those of `--devices FILE`.
pub(crate) fn inventory(simulated: Option<&Path>) -> anyhow::Result<Inventory> {
    match simulated {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("read the devices {path:?}"))?;
            Ok(Inventory::from_simulation(&text, &path.display().to_string())?)
        }
        None => Ok(Inventory::probe_with_helper(&nvml_helper_command(), NVML_DEADLINE)),
    }
}

/// The hidden command `nvml-helper`.
pub(crate) fn nvml_helper(question: &[String]) -> ExitCode {
    if let Err(why) = end_the_sparing() {
        return crate::launch::fail(&why, 1);
    }
    match rbee_hive_devices::nvml_helper_main(question, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => crate::launch::fail(&anyhow::anyhow!("{why}"), 1),
    }
}

/// A helper inherits that hive and launcher are spared when the host runs out of memory, and can be done without.
fn end_the_sparing() -> anyhow::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let score = std::fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
    if score.trim_start().starts_with('-') {
        std::fs::write(FILE, "0").with_context(|| format!("write 0 to {FILE}"))?;
    }
    Ok(())
}
