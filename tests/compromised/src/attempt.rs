//! One attempt: a message, what comes along with it, and the answer that it must get.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::socket::SockType;
use serde_json::Value;

use crate::descriptors;
use crate::launcher::Launcher;

/// The right answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// This kind of refusal.
    Refused(&'static str),
    /// None: whom it would be for can't be told.
    Unread,
}

impl Expected {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Refused(kind) => kind,
            Self::Unread => "unread",
        }
    }
}

/// What comes along.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carried {
    /// What belongs there.
    Control,
    Nothing,
    /// So many files.
    Files(usize),
    /// A control channel and three files.
    Streams,
    /// Two control channels.
    Two,
    /// A file, a directory or a device, by its path.
    Path(&'static str),
    /// A file that root alone may write, which the hive can open to read.
    Policy,
    Pair(SockType),
    Tcp,
    Listening,
    /// A connection to a service of root's.
    Service,
    /// The hive's own end of the channel to the launcher.
    Launcher,
}

/// One attempt.
pub(crate) struct Attempt {
    pub(crate) name: String,
    pub(crate) message: Vec<u8>,
    pub(crate) carried: Carried,
    pub(crate) expected: Expected,
}

impl Attempt {
    /// A request that is well-formed.
    pub(crate) fn of(name: &str, expected: &'static str, message: &Value) -> Self {
        let message = message.to_string().into_bytes();
        Self { name: name.into(), message, carried: Carried::Control, expected: Expected::Refused(expected) }
    }

    /// Something that is not.
    pub(crate) fn unread(name: &str, message: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), message: message.into(), carried: Carried::Nothing, expected: Expected::Unread }
    }

    pub(crate) fn carrying(mut self, carried: Carried) -> Self {
        self.carried = carried;
        self
    }

    /// Makes what comes along.
    pub(crate) fn descriptors(&self, launcher: &Launcher, directory: &Path) -> io::Result<Vec<OwnedFd>> {
        let one = |fd: io::Result<OwnedFd>| fd.map(|fd| vec![fd]);
        match self.carried {
            Carried::Control => descriptors::control(),
            Carried::Nothing => Ok(vec![]),
            Carried::Files(count) => descriptors::files(count),
            Carried::Streams => Ok([descriptors::control()?, descriptors::files(3)?].into_iter().flatten().collect()),
            Carried::Two => Ok([descriptors::control()?, descriptors::control()?].into_iter().flatten().collect()),
            Carried::Path(path) => one(descriptors::file(path)),
            Carried::Policy => one(descriptors::file(&directory.join("policies/fixed.toml").to_string_lossy())),
            Carried::Pair(kind) => one(descriptors::pair(kind)),
            Carried::Tcp => one(descriptors::tcp()),
            Carried::Listening => one(descriptors::listening()),
            Carried::Service => one(descriptors::connected(directory)),
            Carried::Launcher => one(launcher.channel()),
        }
    }
}
