//! The caller's standard streams, which a foreground command has with all that belongs to them: given back as they were.
//!
//! Flags such as O_NONBLOCK and a terminal's attributes are the open file's and not the descriptor's: what the command makes of them its
//! caller's shell would find.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// How the streams were.
pub(crate) struct Streams(Vec<Option<(OFlags, Option<Termios>)>>);

impl Streams {
    /// Looks at them. One that is closed has nothing to give back.
    pub(crate) fn look() -> Self {
        Self(with_each(|fd| Some((fcntl_getfl(fd).ok()?, tcgetattr(fd).ok()))))
    }

    /// Makes them as they were, as far as they still are what they were.
    pub(crate) fn give_back(&self) {
        // A terminal stops a background process that sets it, unless the signal is blocked (termios(3)).
        let mut set = SigSet::empty();
        set.add(Signal::SIGTTOU);
        let _ = set.thread_block();
        let mut before = self.0.iter();
        with_each(|fd| {
            let (flags, terminal) = before.next()?.as_ref()?;
            // A stream that was closed meanwhile, or a terminal that hung up: nobody is left to mind.
            let _ = fcntl_setfl(fd, *flags);
            terminal.as_ref().and_then(|attributes| tcsetattr(fd, SetArg::TCSANOW, attributes).ok())
        });
    }
}

fn with_each<T>(mut act: impl FnMut(BorrowedFd<'_>) -> Option<T>) -> Vec<Option<T>> {
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [input.as_fd(), output.as_fd(), errors.as_fd()].into_iter().map(&mut act).collect()
}
