//! `lo`, the only interface of a private network.

use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rbee_hive_policy::NetworkMode;

use crate::init::InitContext;
use crate::step::{CallError, failed};

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    if context.plan.network == NetworkMode::Host {
        return Ok(());
    }
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(failed(|| "socket(AF_INET, SOCK_DGRAM)".into()))?;
    rbee_hive_sys::loopback::bring_up(any.as_fd()).map_err(failed(|| "ioctl(SIOCSIFFLAGS, \"lo\", IFF_UP)".into()))
}
