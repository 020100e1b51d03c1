//! One attempt: a name, an act, and how it came out.

use std::io;

use nix::errno::Errno;

/// What the kernel made of it.
pub(crate) enum Outcome {
    /// It said no.
    Refused(Errno),
    /// It could be opened, and there was nothing in it.
    Empty,
    /// Nothing was tried, because what it takes is not here: that proves nothing.
    Untried(&'static str),
    /// It worked.
    Done(String),
}

/// Where else than in a sandbox an attempt may be made, to see that it works there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anywhere, in mount, UTS and IPC namespaces of its own: it leaves everything as it was.
    Harmless,
    /// Only on a machine that is thrown away.
    Harmful,
    /// Nowhere: without limits of its own it has no end.
    Flood,
    /// As `Harmful`; and in a sandbox it ends the whole worker, so it is made only when asked for by name.
    Deadly,
}

/// Something that no worker may do.
pub(crate) struct Attempt {
    /// One word a thing, from the general to the particular.
    pub(crate) name: &'static str,
    /// Where it may be made.
    pub(crate) kind: Kind,
    /// Tries it; undoes nothing, since it must not work.
    pub(crate) act: fn() -> Outcome,
}

/// Declares a list of attempts.
macro_rules! attempts {
    ($($kind:ident $name:literal => $act:expr,)*) => {
        pub(super) const LIST: &[crate::attempt::Attempt] = &[$(crate::attempt::Attempt {
            name: $name,
            kind: crate::attempt::Kind::$kind,
            act: || crate::attempt::Outcome::from($act),
        },)*];
    };
}
pub(crate) use attempts;

impl Outcome {
    /// The line of the report, after the name.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Refused(errno) => format!("refused\t{errno:?}"),
            Self::Empty => "refused\tempty".into(),
            Self::Untried(why) => format!("untried\t{why}"),
            Self::Done(what) => format!("DONE\t{}", what.replace(['\n', '\t'], " ")),
        }
    }
}

impl<T, E: IntoErrno> From<Result<T, E>> for Outcome {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Done("it worked".into()),
            Err(e) => Self::Refused(e.into_errno()),
        }
    }
}

/// Errors of the crates that are used here.
pub(crate) trait IntoErrno {
    fn into_errno(self) -> Errno;
}

impl IntoErrno for Errno {
    fn into_errno(self) -> Errno {
        self
    }
}

impl IntoErrno for io::Error {
    fn into_errno(self) -> Errno {
        match self.kind() {
            // The standard library's own, without a number.
            io::ErrorKind::TimedOut => Errno::ETIMEDOUT,
            _ => self.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
        }
    }
}

impl IntoErrno for rustix::io::Errno {
    fn into_errno(self) -> Errno {
        Errno::from_raw(self.raw_os_error())
    }
}
