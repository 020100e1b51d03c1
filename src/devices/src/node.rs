//! The number of a device node.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Character or block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Character.
    Char,
    /// Block.
    Block,
}

/// Kind and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumbers {
    /// Kind.
    pub kind: NodeKind,
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

/// Why a node has no number.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It can't be looked at.
    #[error("look at device node {path:?}")]
    Look {
        /// The node.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no device.
    #[error("{path:?} is no device node")]
    NoDevice {
        /// The path.
        path: PathBuf,
    },
}

impl DeviceNumbers {
    /// Of the node at `path`, links not followed.
    pub fn of(path: &Path) -> Result<Self, NodeError> {
        let there = std::fs::symlink_metadata(path).map_err(|source| NodeError::Look { path: path.to_owned(), source })?;
        let kind = match there.file_type() {
            t if t.is_char_device() => NodeKind::Char,
            t if t.is_block_device() => NodeKind::Block,
            _ => return Err(NodeError::NoDevice { path: path.to_owned() }),
        };
        let dev = there.rdev();
        // makedev(3): 12 bits of major low, 20 high; 8 bits of minor low, 24 high.
        let major = ((dev >> 8) & 0xfff) | ((dev >> 32) & !0xfff);
        let minor = (dev & 0xff) | ((dev >> 12) & !0xff);
        Ok(Self { kind, major: (major & 0xffff_ffff) as u32, minor: (minor & 0xffff_ffff) as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_1_3_and_a_file_is_none() {
        let null = DeviceNumbers::of(Path::new("/dev/null")).unwrap();
        assert_eq!(null, DeviceNumbers { kind: NodeKind::Char, major: 1, minor: 3 });
        assert!(matches!(DeviceNumbers::of(Path::new("/proc/version")), Err(NodeError::NoDevice { .. })));
        assert!(matches!(DeviceNumbers::of(Path::new("/dev/no-such-node")), Err(NodeError::Look { .. })));
    }
}
