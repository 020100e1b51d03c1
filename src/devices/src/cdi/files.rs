//! Finding and reading the spec files, as if they were hostile: whoever writes one decides what workers see.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::DIRECTORIES;
use super::spec::{Spec, parse};

/// Files of one directory that are read.
const MAX_FILES: usize = 64;
/// Longest spec, bytes: eight GPUs cut into parts take some 100 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// Every spec that can be read, in order of precedence (the last one wins). What can't be, and why, goes into `notes`. `root` is `/`.
pub(super) fn read_all(root: &Path, notes: &mut Vec<String>) -> Vec<Spec> {
    let mut specs = Vec::new();
    for directory in DIRECTORIES {
        // `/var/run` is a link to `/run`: the directory is judged where it is.
        let Ok(real) = fs::canonicalize(root.join(&directory[1..])) else { continue };
        if let Err(why) = trusted_directory(&real) {
            notes.push(format!("CDI: {directory} is not read: {why}"));
            continue;
        }
        for path in spec_files(&real, directory, notes) {
            let shown = Path::new(directory).join(path.file_name().unwrap_or_default());
            match read(&path).and_then(|text| parse(&text, &shown)) {
                Ok(spec) => specs.push(spec),
                Err(why) => notes.push(format!("CDI: {} is left out: {why}", shown.display())),
            }
        }
    }
    specs
}

/// The specs of a directory by name.
fn spec_files(directory: &Path, shown: &str, notes: &mut Vec<String>) -> Vec<PathBuf> {
    let is_spec = |path: &PathBuf| path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MAX_FILES * 16);
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(is_spec).collect();
    files.sort();
    if files.len() > MAX_FILES {
        notes.push(format!("CDI: {shown} has {} specs, of which the first {MAX_FILES} by name are read", files.len()));
        files.truncate(MAX_FILES);
    }
    files
}

fn trusted_directory(path: &Path) -> Result<(), String> {
    for component in path.ancestors() {
        let there = fs::symlink_metadata(component).map_err(|e| format!("look at {}: {e}", component.display()))?;
        // In a sticky directory nobody can replace what another made.
        let sticky = component != path && there.mode() & 0o1000 != 0;
        trusted(&there, sticky).map_err(|why| format!("{} {why}", component.display()))?;
    }
    Ok(())
}

/// Root's, or of who runs this (who has no more to gain than he has), and nobody else can write it.
fn trusted(there: &Metadata, sticky: bool) -> Result<(), String> {
    if there.uid() != 0 && there.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("belongs to uid {}, not to root", there.uid()));
    }
    if there.mode() & 0o022 != 0 && !sticky {
        return Err("can be written by others than its owner".into());
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = file.map_err(|e| if e.raw_os_error() == Some(40) { "it is a symbolic link".to_owned() } else { format!("open it: {e}") })?;
    let there = file.metadata().map_err(|e| format!("look at it: {e}"))?;
    if !there.is_file() {
        return Err("it is no file".into());
    }
    trusted(&there, false).map_err(|why| format!("it {why}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| format!("read it: {e}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::inventory::fake::host;

    const OK: &str = r#"{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "0", "containerEdits": {}}]}"#;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn both_directories_are_read_by_name_and_other_files_are_not() {
        let yaml = "cdiVersion: 0.5.0\nkind: amd.com/gpu\ndevices:\n- name: '1'\n  containerEdits: {}\n";
        let root = host(&[("etc/cdi/b.json", OK), ("etc/cdi/a.yaml", yaml), ("etc/cdi/notes.txt", "x"), ("run/cdi/c.json", OK)]);
        fs::create_dir_all(root.path().join("var")).unwrap();
        symlink("../run", root.path().join("var/run")).unwrap();
        let mut notes = vec![];
        let specs = read_all(root.path(), &mut notes);
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(
            specs.iter().map(|s| s.file.display().to_string()).collect::<Vec<_>>(),
            ["/etc/cdi/a.yaml", "/etc/cdi/b.json", "/var/run/cdi/c.json"]
        );
    }

    #[test]
    fn what_another_could_have_written_is_not_believed_and_said() {
        let root = host(&[("etc/cdi/a.json", OK), ("etc/cdi/b.json", OK), ("etc/elsewhere.json", OK), ("var/run/cdi/c.json", OK)]);
        let etc = root.path().join("etc/cdi");
        mode(&etc.join("a.json"), 0o664);
        mode(&root.path().join("var/run/cdi"), 0o777);
        symlink(root.path().join("etc/elsewhere.json"), etc.join("link.json")).unwrap();
        fs::create_dir(etc.join("d.json")).unwrap();
        let mut notes = vec![];
        let specs = read_all(root.path(), &mut notes);
        assert_eq!(specs.iter().map(|s| s.file.clone()).collect::<Vec<_>>(), [Path::new("/etc/cdi/b.json")]);
        let said = |part: &str| notes.iter().any(|n| n.contains(part));
        assert!(
            said("a.json is left out: it can be written by others") && said("link.json is left out: it is a symbolic link"),
            "{notes:?}"
        );
        assert!(said("d.json is left out: it is no file") && said("/var/run/cdi is not read"), "{notes:?}");
    }

    #[test]
    fn a_file_without_end_or_without_sense_and_a_directory_without_end_are_bounded() {
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        let root = host(&[("etc/cdi/long.json", long.as_str()), ("etc/cdi/wrong.json", "{"), ("etc/cdi/wrong.yaml", "a: *b\n")]);
        fs::write(root.path().join("etc/cdi/bytes.json"), [0xff, 0xfe]).unwrap();
        let mut notes = vec![];
        assert!(read_all(root.path(), &mut notes).is_empty());
        assert!(
            notes.len() == 4 && notes.iter().any(|n| n.contains("longer than")) && notes.iter().any(|n| n.contains("UTF-8")),
            "{notes:?}"
        );
        let many: Vec<String> = (0..70).map(|n| format!("etc/cdi/{n}.json")).collect();
        let root = host(&many.iter().map(|path| (path.as_str(), OK)).collect::<Vec<_>>());
        let mut notes = vec![];
        assert_eq!(read_all(root.path(), &mut notes).len(), MAX_FILES);
        assert!(notes[0].contains("70 specs"), "{notes:?}");
    }
}
