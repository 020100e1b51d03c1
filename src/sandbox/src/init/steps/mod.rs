//! The sandbox, step by step, in the order in which an init makes it. Each name shows up in errors.

pub(crate) mod lifetime;

mod bind_files;
mod deny;
mod identity;
mod join_cgroup;
mod loopback;
mod map_user;
mod mask_paths;
mod mount_dev;
mod mount_proc;
mod mount_root;
mod mount_scratch;
mod mount_sys;
mod notify_socket;
mod pipes;
mod pivot;
mod write_etc;

use super::InitContext;
use crate::step::Step;

/// What an init does before its worker exists.
pub(crate) const INIT_STEPS: &[Step<InitContext>] = &[
    Step { name: "close inherited descriptors", run: lifetime::close_inherited },
    Step { name: "open process numbers", run: super::oom::open_host_numbers },
    Step { name: "load deny-list", run: deny::run },
    Step { name: "map user", run: map_user::run },
    Step { name: "die with the launcher", run: lifetime::die_with_the_launcher },
    Step { name: "join init cgroup", run: join_cgroup::run },
    Step { name: "make mounts private", run: mount_root::make_private },
    Step { name: "mount root", run: mount_root::run },
    Step { name: "mount scratch", run: mount_scratch::run },
    Step { name: "mount dev", run: mount_dev::run },
    Step { name: "mount proc", run: mount_proc::run },
    Step { name: "mount sys", run: mount_sys::run },
    Step { name: "bind files", run: bind_files::run },
    Step { name: "write etc", run: write_etc::run },
    Step { name: "pivot root", run: pivot::run },
    Step { name: "mask paths", run: mask_paths::run },
    Step { name: "seal root", run: pivot::seal },
    Step { name: "set host name", run: identity::run },
    Step { name: "bring loopback up", run: loopback::run },
    Step { name: "bind notify socket", run: notify_socket::run },
    Step { name: "open output pipes", run: pipes::run },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_one_that_the_design_rests_on() {
        let names: Vec<_> = INIT_STEPS.iter().map(|s| s.name).collect();
        let at = |name: &str| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no step {name:?}"));
        assert_eq!(at("close inherited descriptors"), 0, "an inherited lock or lifeline would outlive its owner");
        assert!(at("open process numbers") < at("pivot root"), "the sandbox's own /proc has other numbers");
        assert!(at("map user") < at("die with the launcher"), "a process that can't be traced can't write its own maps");
        assert!(at("make mounts private") < at("mount root"), "a mount made before would show on the host");
        assert!(at("bind files") < at("pivot root"), "sources are host paths");
        assert!(at("pivot root") < at("mask paths"), "masks are put on the paths that the worker sees");
        assert!(at("mask paths") < at("seal root"));
    }
}
