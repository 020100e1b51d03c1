//! The model: looked up beneath an allowed directory, opened once, and mounted from that very descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rbee_hive_policy::{Bind, BindSource};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, openat2, statat};
use rustix::io::Errno;

use super::idmap::Reader;
use crate::mount_tree::{MountApi, Tree};
use crate::protocol::{LaunchError, LaunchErrorKind};

/// Where models are inside.
const INSIDE: &str = "/models";
/// Most entries of a model directory that are looked at for links.
const MAX_ENTRIES: usize = 10_000;

/// A model that was found.
pub(crate) struct Model {
    /// What `{model}` stands for.
    pub(crate) inside: String,
    /// Binds, whose `index` counts from 0 in `trees`.
    pub(crate) binds: Vec<Bind>,
    /// What the init mounts.
    pub(crate) trees: Vec<Tree>,
    /// By which its owner is seen as the worker, where nobody else may read it.
    map: Option<OwnedFd>,
}

/// Looks `model` up in `directories`, in order. A path must lie below one of them; links inside resolve inside.
pub(crate) fn find_model(model: &str, directories: &[PathBuf], reader: Reader<'_>) -> Result<Model, LaunchError> {
    let mut tried = Vec::new();
    let mut below_one = false;
    for directory in directories {
        let Some(relative) = relative_to(model, directory) else { continue };
        below_one = true;
        let shown = directory.join(&relative).display().to_string();
        match open_beneath(directory, &relative) {
            Ok((root, fd)) => return mount_of(&root, &fd, &relative, reader).map_err(|e| e.with_tried(vec![shown])),
            Err(e) => tried.push(if e == Errno::NOENT { shown } else { format!("{shown} ({})", io::Error::from(e)) }),
        }
    }
    if !below_one {
        let list = directories.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(LaunchError::new(
            LaunchErrorKind::PolicyViolation,
            format!("model {model:?} is not below the policy's model_dirs ({list})"),
        ));
    }
    Err(LaunchError::new(LaunchErrorKind::ModelNotFound, format!("model {model:?} is not there"))
        .with_hint("put the file into one of the places tried, or start the hive with --model-dir")
        .with_tried(tried))
}

fn relative_to(model: &str, directory: &Path) -> Option<PathBuf> {
    let path = Path::new(model);
    let relative = if path.is_absolute() { path.strip_prefix(directory).ok()? } else { path };
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let relative: PathBuf = relative.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    (plain && !relative.as_os_str().is_empty()).then_some(relative)
}

fn open_beneath(directory: &Path, relative: &Path) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    let fd = openat2(&root, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?;
    Ok((root, fd))
}

fn mount_of(root: &OwnedFd, fd: &OwnedFd, relative: &Path, reader: Reader<'_>) -> Result<Model, LaunchError> {
    let inside = Path::new(INSIDE).join(relative);
    let stat = statat(fd, "", AtFlags::EMPTY_PATH).map_err(|e| unreadable(&inside, e))?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    let needed = if is_dir { 0o5 } else { 0o4 };
    let map = match reader.may_read(&stat, needed) {
        true => None,
        false => Some(reader.map_of(&stat, needed).map_err(|e| not_readable(relative, &stat, &e))?),
    };
    let mut model = Model { inside: inside.to_string_lossy().into_owned(), binds: vec![], trees: vec![], map };
    let add = |model: &mut Model, fd: &OwnedFd, target: PathBuf| model.add(fd, target).map_err(|e| not_readable(relative, &stat, &e));
    if is_dir && links_lead_out(fd).map_err(|e| unreadable(&inside, e))? {
        // A hub cache: snapshots link to blobs beside them, so the whole directory is shown and the links resolve inside.
        add(&mut model, root, PathBuf::from(INSIDE))?;
    } else {
        add(&mut model, fd, inside)?;
        for part in split_parts(relative) {
            let beside =
                openat2(root, &part, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
            if let Ok(beside) = beside {
                add(&mut model, &beside, Path::new(INSIDE).join(part))?;
            }
        }
    }
    Ok(model)
}

impl Model {
    /// A word that is handed to the worker as it is.
    pub(crate) fn opaque(word: &str) -> Self {
        Self { inside: word.to_owned(), binds: vec![], trees: vec![], map: None }
    }

    /// Its binds, which count its trees from where those will be: behind `trees`, which takes them.
    pub(crate) fn hand_over(self, trees: &mut Vec<Tree>) -> Vec<Bind> {
        let mut binds = self.binds;
        for bind in &mut binds {
            if let BindSource::Opened { index } = &mut bind.source {
                *index += trees.len();
            }
        }
        trees.extend(self.trees);
        binds
    }

    fn add(&mut self, fd: &OwnedFd, target: PathBuf) -> io::Result<()> {
        let tree = MountApi::probe().tree_to_hand_over(fd)?;
        if let Some(map) = &self.map {
            tree.map_ids(map.as_fd())?;
        }
        self.binds.push(Bind { source: BindSource::Opened { index: self.trees.len() }, target, writable: false, optional: false });
        self.trees.push(tree);
        Ok(())
    }
}

fn not_readable(relative: &Path, stat: &Stat, why: &io::Error) -> LaunchError {
    let mode = stat.st_mode & 0o7777;
    let text = format!(
        "model {} can't be read by a worker's uid (mode {mode:04o}, uid {}), nor be mounted so that it can (id-mapped: {why})",
        relative.display(),
        stat.st_uid
    );
    LaunchError::new(LaunchErrorKind::ModelNotReadable, text).with_hint("make it readable for all: chmod -R a+rX")
}

fn unreadable(path: &Path, source: impl Into<io::Error>) -> LaunchError {
    LaunchError::setup("open model", crate::step::CallError::new(format!("open_tree({path:?})"), source))
}

/// Whether a symbolic link directly or one level below `fd` points outside of it.
fn links_lead_out(fd: &OwnedFd) -> io::Result<bool> {
    let top = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let mut left = MAX_ENTRIES;
    let mut pending = vec![(top, 0usize)];
    while let Some((directory, depth)) = pending.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            left = left.checked_sub(1).ok_or_else(|| io::Error::other("the model directory has more than 10,000 entries"))?;
            let kind = entry.file_type()?;
            if kind.is_symlink() && climbs_above(&std::fs::read_link(entry.path())?, depth) {
                return Ok(true);
            }
            if kind.is_dir() && entry.metadata()?.mode() & 0o005 == 0o005 {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    Ok(false)
}

fn climbs_above(target: &Path, depth: usize) -> bool {
    let mut level = depth as isize;
    target.is_absolute()
        || target.components().any(|c| {
            level += match c {
                Component::ParentDir => -1,
                Component::Normal(_) => 1,
                _ => 0,
            };
            level < 0
        })
}

/// The other files of a split GGUF (`name-00001-of-00003.gguf`), which llama.cpp opens by itself.
fn split_parts(relative: &Path) -> Vec<PathBuf> {
    const MAX_PARTS: u32 = 999;
    let name = relative.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let parse = || {
        let stem = name.strip_suffix(".gguf")?;
        let (head, total) = stem.rsplit_once("-of-")?;
        let (base, number) = head.rsplit_once('-')?;
        let five = |t: &str| (t.len() == 5).then(|| t.parse::<u32>().ok()).flatten();
        Some((base, five(number)?, five(total)?))
    };
    let Some((base, number, total)) = parse() else { return vec![] };
    let beside = |n: u32| relative.with_file_name(format!("{base}-{n:05}-of-{total:05}.gguf"));
    (1..=total.min(MAX_PARTS)).filter(|n| *n != number).map(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these tests look at comes before any copy of the process.
    fn reader() -> Reader<'static> {
        Reader { ids: rbee_hive_policy::Ids { uid: 4_000_000, gid: 4_000_000 }, proof: None }
    }

    #[test]
    fn a_model_outside_of_its_directories_is_a_violation_and_a_missing_one_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned()];
        for outside in ["/etc/passwd", "../x", "a/../../x"] {
            assert_eq!(find_model(outside, &dirs, reader()).err().unwrap().kind, LaunchErrorKind::PolicyViolation, "{outside}");
        }
        let e = find_model("m.gguf", &dirs, reader()).err().unwrap();
        assert_eq!((e.kind, e.tried.len()), (LaunchErrorKind::ModelNotFound, 1));
    }

    #[test]
    fn a_link_out_of_the_directory_resolves_inside_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("m.gguf")).unwrap();
        assert_eq!(find_model("m.gguf", &[dir.path().to_owned()], reader()).err().unwrap().kind, LaunchErrorKind::ModelNotFound);
    }

    #[test]
    fn the_other_parts_of_a_split_model_come_along() {
        let parts = split_parts(Path::new("d/m-00002-of-00003.gguf"));
        assert_eq!(parts, [PathBuf::from("d/m-00001-of-00003.gguf"), PathBuf::from("d/m-00003-of-00003.gguf")]);
        assert!(split_parts(Path::new("m-1-of-3.gguf")).is_empty());
        assert!(split_parts(Path::new("m.gguf")).is_empty());
    }

    #[test]
    fn its_binds_find_its_trees_behind_those_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let open = |n: usize| std::fs::File::create(dir.path().join(n.to_string())).map(|f| Tree::Detached(f.into())).unwrap();
        let bind = |index| Bind {
            source: BindSource::Opened { index },
            target: format!("/models/{index}").into(),
            writable: false,
            optional: false,
        };
        let mut trees = vec![open(7)];
        let model = Model { binds: vec![bind(0), bind(1)], trees: vec![open(0), open(1)], ..Model::opaque("m") };
        let binds = model.hand_over(&mut trees);
        let found: Vec<usize> =
            binds.iter().filter_map(|b| if let BindSource::Opened { index } = b.source { Some(index) } else { None }).collect();
        assert_eq!((found, trees.len()), (vec![1, 2], 3));
    }

    #[test]
    fn links_to_blobs_beside_are_seen() {
        assert!(climbs_above(Path::new("../../blobs/abc"), 0));
        assert!(!climbs_above(Path::new("../x"), 1));
        assert!(climbs_above(Path::new("/x"), 5));
    }
}
