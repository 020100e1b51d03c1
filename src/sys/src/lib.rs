//! The only `unsafe` of the project: kernel interfaces that no safe crate offers, one small file each.
//!
//! Must never know: policies, workers.
#![allow(unsafe_code, reason = "this crate exists to hold it")]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod bpf;
pub mod clone;
pub mod exec;
pub mod fds;
pub mod keyring;
pub mod landlock;
pub mod loopback;
pub mod memory_policy;
pub mod mount;
pub mod nvml;
pub mod scheduling;
pub mod scm;
pub mod seccomp;
pub mod signals;
