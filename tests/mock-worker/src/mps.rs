//! The part of NVIDIA's MPS control daemon, played where the mock is installed under its name.
//!
//! Owns: `-f`, CUDA_MPS_PIPE_DIRECTORY with a control socket and a pid file in it, and a server of its own that a plain end leaves behind.
//! Must never know: CUDA. What the real one says on its socket is not played: a connection is taken and closed.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, listen, socket};

use crate::load;
use crate::options::Role;
use crate::termination::{self, OnTerm};

/// Its name on a machine with NVIDIA's driver.
const NAME: &str = "nvidia-cuda-mps-control";

/// Whether the mock was started under its name (and not as its server, which the mock's own children are).
pub(crate) fn is_meant() -> bool {
    let mut words = env::args_os();
    let name = words.next().map(PathBuf::from);
    name.as_deref().and_then(Path::file_name) == Some(OsStr::new(NAME)) && words.next().is_none_or(|word| word == "-f")
}

/// Serves until SIGTERM.
pub(crate) fn run() -> io::Result<ExitCode> {
    termination::install(OnTerm::ExitZero)?;
    let directory = env::var_os("CUDA_MPS_PIPE_DIRECTORY").map(PathBuf::from).ok_or(io::ErrorKind::NotFound)?;
    fs::write(directory.join(format!("{NAME}.pid")), process::id().to_string())?;
    load::start_self(Role::Idle)?;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&directory.join("control"))?)?;
    listen(&listener, Backlog::new(16)?)?;
    loop {
        nix::unistd::close(accept(listener.as_raw_fd())?)?;
    }
}
