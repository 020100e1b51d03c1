//! Where a worker that speaks sd_notify finds its init.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use rbee_hive_policy::Readiness;

use crate::init::InitContext;
use crate::step::{CallError, failed};

const PATH: &str = "/run/worker/notify";

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    if context.plan.readiness != Readiness::Notify {
        return Ok(());
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(failed(|| "socket(AF_UNIX, SOCK_DGRAM)".into()))?;
    let address = UnixAddr::new(PATH).map_err(failed(|| format!("sockaddr_un({PATH:?})")))?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).map_err(failed(|| format!("bind({PATH:?})")))?;
    let refused = rbee_hive_sys::scm::refuse_descriptors(std::os::fd::AsFd::as_fd(&socket));
    refused.map(drop).map_err(failed(|| "setsockopt(SO_PASSRIGHTS, 0)".into()))?;
    // The directory is the worker's alone; within it the socket must be writable by its uid.
    fchmodat(rustix::fs::CWD, PATH, Mode::from_bits_truncate(0o666), FchmodatFlags::FollowSymlink)
        .map_err(failed(|| format!("chmod({PATH:?}, 0666)")))?;
    context.plan.env.insert("NOTIFY_SOCKET".into(), PATH.into());
    context.notify = Some(socket);
    Ok(())
}
