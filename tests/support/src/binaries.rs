//! Where the compiled programs are.
//!
//! Owns: `RBEE_HIVE_BIN`, `RBEE_MOCK_BIN`, and the place beside the test executable. Must never know: how they are started.

use std::env;
use std::path::PathBuf;

/// The hive: `RBEE_HIVE_BIN`, or `rbee-hive` in the target directory that this test was built into.
///
/// # Panics
/// When it is at neither place.
pub fn hive_binary() -> PathBuf {
    find("RBEE_HIVE_BIN", "rbee-hive")
}

/// The mock worker: `RBEE_MOCK_BIN`, or `mock-worker` in the target directory that this test was built into.
///
/// # Panics
/// When it is at neither place.
pub fn mock_binary() -> PathBuf {
    find("RBEE_MOCK_BIN", "mock-worker")
}

fn find(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable).map(PathBuf::from) {
        assert!(path.is_file(), "{variable} names {}, where no file is", path.display());
        return path;
    }
    let own = env::current_exe().expect("read the path of the test executable");
    // target/<profile>/deps/<test>: the programs lie one folder up.
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    beside.unwrap_or_else(|| panic!("{name} is not beside {}: build it (cargo build --bin {name}) or set {variable}", own.display()))
}
