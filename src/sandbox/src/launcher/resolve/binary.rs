//! Where a worker's binary is.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::launcher::trust::check_path;

/// Found nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("binary {name:?} is nowhere to be found; tried {}", .tried.join(", "))]
pub struct BinaryNotFound {
    /// What was looked for.
    pub name: String,
    /// Every place tried, with the reason where something was there.
    pub tried: Vec<String>,
}

/// Finds `name`: an absolute path as it is; otherwise below `directories`, then by the seed's list (`./target/debug` in debug builds,
/// `./target/release`, `/usr/local/bin`, `~/.local/bin`, PATH).
///
/// What is found relative to the current directory or the home is taken only if it and every directory on its way belong to root or to
/// `owner` and nobody else can write them.
pub fn find_binary(name: &str, directories: &[PathBuf], owner: u32) -> Result<PathBuf, BinaryNotFound> {
    let mut tried = Vec::new();
    for place in places(name, directories) {
        match place.check(owner) {
            Ok(path) => return Ok(path),
            Err(why) => tried.push(why),
        }
    }
    Err(BinaryNotFound { name: name.to_owned(), tried })
}

struct Place {
    path: PathBuf,
    /// Below the current directory or the home, where somebody else may have put it.
    personal: bool,
}

fn places(name: &str, directories: &[PathBuf]) -> Vec<Place> {
    let fixed = |path: PathBuf| Place { path, personal: false };
    let personal = |path: PathBuf| Place { path, personal: true };
    if name.contains('/') {
        return vec![if name.starts_with('/') { fixed(name.into()) } else { personal(name.into()) }];
    }
    let mut list: Vec<Place> = directories.iter().map(|d| fixed(d.join(name))).collect();
    if cfg!(debug_assertions) {
        list.push(personal(Path::new("./target/debug").join(name)));
    }
    list.push(personal(Path::new("./target/release").join(name)));
    list.push(fixed(Path::new("/usr/local/bin").join(name)));
    if let Some(home) = env::var_os("HOME") {
        list.push(personal(Path::new(&home).join(".local/bin").join(name)));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // An empty entry means the current directory (execvp(3)), which is never searched here.
    for directory in env::split_paths(&path).filter(|d| d.is_absolute()) {
        let path = directory.join(name);
        // A PATH often has what stands above, and some of it twice.
        if list.iter().all(|place| place.path != path) {
            list.push(fixed(path));
        }
    }
    list
}

impl Place {
    fn check(&self, owner: u32) -> Result<PathBuf, String> {
        let shown = self.path.display();
        let there = std::fs::metadata(&self.path).map_err(|_| shown.to_string())?;
        if !there.is_file() {
            return Err(format!("{shown} (not a file)"));
        }
        if there.permissions().mode() & 0o111 == 0 {
            return Err(format!("{shown} (not executable: chmod +x)"));
        }
        if self.personal {
            return check_path(&self.path, &[owner]).map_err(|why| format!("{shown} (not trusted: {why})"));
        }
        self.path.canonicalize().map_err(|e| format!("{shown} ({e})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_tried_is_listed_and_a_plain_file_is_no_binary() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("llama-nowhere"), "x").unwrap();
        let e = find_binary("llama-nowhere", &[dir.path().to_owned()], 0).unwrap_err();
        assert!(e.tried[0].ends_with("(not executable: chmod +x)"), "{:?}", e.tried);
        for place in ["./target/release/llama-nowhere", "/usr/local/bin/llama-nowhere", "/usr/bin/llama-nowhere"] {
            assert!(e.tried.iter().any(|t| t == place), "{place} is missing in {:?}", e.tried);
        }
    }

    #[test]
    fn path_is_searched_for_real() {
        assert!(find_binary("sh", &[], 0).unwrap().is_absolute());
    }
}
