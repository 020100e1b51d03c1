//! The policy's root directory: opened once, by a path without links, and searched for programs as the worker will find them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::Errno;

use super::binary::BinaryNotFound;
use crate::launcher::trust::check_path;
use crate::launcher::{LauncherOptions, Purpose};
use crate::mount_tree::{MountApi, Tree};
use crate::protocol::{LaunchError, LaunchErrorKind};

/// Where a program is looked for inside, as the PATH of a worker says.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A root directory that is open.
pub(crate) struct RootFs {
    directory: OwnedFd,
    pub(crate) path: PathBuf,
}

impl RootFs {
    /// Opens `path`. A hive started by root takes only what root alone can have put there.
    pub(crate) fn open(path: &Path, options: &LauncherOptions) -> Result<Self, LaunchError> {
        let refused = |kind, why: String| {
            LaunchError::new(kind, format!("filesystem.root {}: {why}", path.display()))
                .with_hint("name a directory by its real path; for a hive of root it and everything above it must be root's and writable by nobody else")
        };
        if nix::unistd::geteuid().is_root() && options.purpose == Purpose::Serve {
            check_path(path, &[]).map_err(|e| refused(LaunchErrorKind::InvalidPolicy, e.to_string()))?;
        }
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve);
        let directory = opened.map_err(|e| match e {
            Errno::LOOP => refused(LaunchErrorKind::NotEnforceable, "there is a symbolic link on the way to it".into()),
            e => refused(LaunchErrorKind::NotEnforceable, io::Error::from(e).to_string()),
        })?;
        Ok(Self { directory, path: path.to_owned() })
    }

    /// What the init gets.
    pub(crate) fn tree(&self, mounts: MountApi) -> Result<Tree, LaunchError> {
        let call = || format!("open_tree({:?})", self.path);
        mounts
            .tree_to_hand_over(&self.directory)
            .map_err(|e| LaunchError::setup("open the root directory", crate::CallError::new(call(), e)))
    }

    /// Finds `name`: an absolute path inside, or a name below `directories` of the host, which are mounted over it, and then by the PATH.
    pub(crate) fn find_binary(&self, name: &str, directories: &[PathBuf]) -> Result<PathBuf, BinaryNotFound> {
        let places: Vec<PathBuf> = match name.starts_with('/') {
            true => vec![name.into()],
            false => directories.iter().map(PathBuf::as_path).chain(PATH.map(Path::new)).map(|d| d.join(name)).collect(),
        };
        let mut tried = Vec::new();
        for place in places {
            let mounted = directories.iter().any(|d| place.starts_with(d) && d.is_dir());
            match if mounted { is_program(rustix::fs::stat(&place)) } else { self.has_program(&place) } {
                Ok(()) => return Ok(place),
                Err(why) if mounted => tried.push(format!("{}{why}", place.display())),
                Err(why) => tried.push(format!("{}{}{why}", self.path.display(), place.display())),
            }
        }
        Err(BinaryNotFound { name: name.to_owned(), tried })
    }

    /// Links are followed as they will be inside.
    fn has_program(&self, inside: &Path) -> Result<(), String> {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&self.directory, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
        is_program(opened.and_then(|fd| statat(&fd, "", AtFlags::EMPTY_PATH)))
    }
}

fn is_program(stat: Result<rustix::fs::Stat, Errno>) -> Result<(), String> {
    match stat {
        Ok(there) if !FileType::from_raw_mode(there.st_mode).is_file() => Err(" (not a file)".into()),
        Ok(there) if there.st_mode & 0o111 == 0 => Err(" (not executable: chmod +x)".into()),
        Ok(_) => Ok(()),
        Err(Errno::NOENT) => Err(String::new()),
        Err(e) => Err(format!(" ({})", io::Error::from(e))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn rootfs(path: &Path) -> RootFs {
        let directory = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        RootFs { directory, path: path.to_owned() }
    }

    #[test]
    fn programs_are_looked_for_inside_and_a_link_out_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        std::fs::write(dir.path().join("usr/bin/tool"), "").unwrap();
        std::fs::set_permissions(dir.path().join("usr/bin/tool"), PermissionsExt::from_mode(0o755)).unwrap();
        symlink("/usr/bin/tool", dir.path().join("usr/bin/alias")).unwrap();
        symlink(std::env::current_exe().unwrap(), dir.path().join("usr/bin/out")).unwrap();
        let root = rootfs(dir.path());
        assert_eq!(root.find_binary("alias", &[]), Ok("/usr/bin/alias".into()));
        assert_eq!(root.find_binary("/usr/bin/tool", &[]), Ok("/usr/bin/tool".into()));
        let missing = root.find_binary("out", &[]).unwrap_err();
        assert!(missing.tried.contains(&format!("{}/usr/bin/out", dir.path().display())), "{missing}");
    }
}
