//! `bpf(2)`: device programs for cgroup v2 (`BPF_PROG_TYPE_CGROUP_DEVICE`), assembled by hand.
//!
//! Owns the instruction list, its loading and its attaching. Must never know: which worker may use which device, and why.
//!
//! The kernel runs the program for every open and `mknod` of a device node by a process of the cgroup, with
//! `struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; }` (linux/bpf.h); 0 refuses with EPERM, 1 allows.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Most rules in one program: ten instructions each stay below the 4096 that every kernel takes.
pub const MAX_RULES: usize = 256;

/// Access bits of a rule, as in `access_type >> 16`.
pub const ACCESS_MKNOD: u32 = 1;
/// Open for reading.
pub const ACCESS_READ: u32 = 2;
/// Open for writing.
pub const ACCESS_WRITE: u32 = 4;

const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;

const CMD_PROG_LOAD: libc::c_long = 5;
const CMD_PROG_ATTACH: libc::c_long = 8;
const CMD_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const CMD_PROG_QUERY: libc::c_long = 16;
/// Most programs that are asked for on one cgroup; the kernel allows 64.
const MAX_ATTACHED: usize = 64;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;

// Opcodes (linux/bpf_common.h, linux/bpf.h): class | size or operation | source.
const LDX_MEM_W: u8 = 0x61;
const ALU32_AND_K: u8 = 0x54;
const ALU32_RSH_K: u8 = 0x74;
const ALU32_MOV_X: u8 = 0xbc;
const ALU64_MOV_K: u8 = 0xb7;
const JMP_JNE_K: u8 = 0x55;
const JMP_EXIT: u8 = 0x95;

/// Character or block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceType {
    /// `b`
    Block,
    /// `c`
    Char,
}

/// One device and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceRule {
    /// Character or block.
    pub kind: DeviceType,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bits of [`ACCESS_MKNOD`], [`ACCESS_READ`], [`ACCESS_WRITE`].
    pub access: u32,
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low, source register in the high four bits.
    pub regs: u8,
    /// Offset of a jump or load.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs: dst | (src << 4), off, imm }
}

/// The program that allows exactly `rules`.
///
/// Registers: r2 device type, r3 asked-for access, r4 major, r5 minor, r0 scratch and result.
/// Errors: `InvalidInput` for more than [`MAX_RULES`] rules or a device number that no kernel has.
pub fn assemble(rules: &[DeviceRule]) -> io::Result<Vec<Insn>> {
    if rules.len() > MAX_RULES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} device rules, at most {MAX_RULES}", rules.len())));
    }
    let mut code = vec![
        insn(LDX_MEM_W, 2, 1, 0, 0),
        insn(ALU32_MOV_X, 3, 2, 0, 0),
        insn(ALU32_AND_K, 2, 0, 0, 0xffff),
        insn(ALU32_RSH_K, 3, 0, 0, 16),
        insn(LDX_MEM_W, 4, 1, 4, 0),
        insn(LDX_MEM_W, 5, 1, 8, 0),
        // Making a node grants nothing: opening it is what the rules are about (and CAP_MKNOD guards the making).
        insn(JMP_JNE_K, 3, 0, 2, ACCESS_MKNOD as i32),
        insn(ALU64_MOV_K, 0, 0, 0, 1),
        insn(JMP_EXIT, 0, 0, 0, 0),
    ];
    for rule in rules {
        let bad = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("device {}:{} cannot exist", rule.major, rule.minor));
        let major = i32::try_from(rule.major).map_err(bad)?;
        let minor = i32::try_from(rule.minor).map_err(bad)?;
        let kind = match rule.kind {
            DeviceType::Block => DEV_BLOCK,
            DeviceType::Char => DEV_CHAR,
        };
        let refused = (!rule.access & 0x7) as i32 | !0x7;
        // Every jump leads to the next rule: the offset counts from the instruction after the jump.
        code.extend([
            insn(JMP_JNE_K, 2, 0, 7, kind),
            insn(JMP_JNE_K, 4, 0, 6, major),
            insn(JMP_JNE_K, 5, 0, 5, minor),
            insn(ALU32_MOV_X, 0, 3, 0, 0),
            insn(ALU32_AND_K, 0, 0, 0, refused),
            insn(JMP_JNE_K, 0, 0, 2, 0),
            insn(ALU64_MOV_K, 0, 0, 0, 1),
            insn(JMP_EXIT, 0, 0, 0, 0),
        ]);
    }
    code.extend([insn(ALU64_MOV_K, 0, 0, 0, 0), insn(JMP_EXIT, 0, 0, 0, 0)]);
    Ok(code)
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads here.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` reads here.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes here.
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads here.
#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`; the kernel fills no more than it is given room for.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
}

/// Loads a device program; the descriptor is close-on-exec (the kernel sets that by itself).
///
/// Errors: `EPERM` without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN), or over RLIMIT_MEMLOCK before Linux 5.11; `EINVAL` where the
/// kernel lacks CONFIG_CGROUP_BPF or its verifier refuses.
pub fn load(code: &[Insn]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut prog_name = [0u8; 16];
    prog_name[..9].copy_from_slice(b"rbee_devs");
    let attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        insns: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        prog_name,
        ..LoadAttr::default()
    };
    // SAFETY: bpf(BPF_PROG_LOAD) reads `size_of::<LoadAttr>()` bytes at `attr`, `insn_cnt` instructions at `insns` and the NUL-terminated
    // licence; all three are borrowed for the whole call and `LoadAttr`, `Insn` have the kernel's layout.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, CMD_PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) };
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a loaded device program to a cgroup (its directory) in addition to those that are there and above it.
///
/// Errors: `EPERM` without the capability or where a program above forbids it, `EINVAL` without CONFIG_CGROUP_BPF.
pub fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = AttachAttr {
        target_fd: u32::try_from(cgroup.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
        attach_bpf_fd: u32::try_from(program.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI,
    };
    // SAFETY: bpf(BPF_PROG_ATTACH) reads `size_of::<AttachAttr>()` bytes at `attr`, which lives through the call and has the kernel's
    // layout; both descriptors are borrowed.
    let done = unsafe { libc::syscall(libc::SYS_bpf, CMD_PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The number by which the kernel knows a loaded program for as long as it lives.
///
/// Errors: `EBADF` or `EINVAL` for what is no program.
pub fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = ProgInfo::default();
    let attr = InfoAttr {
        bpf_fd: u32::try_from(program.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
        info_len: size_of::<ProgInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: bpf(BPF_OBJ_GET_INFO_BY_FD) reads `size_of::<InfoAttr>()` bytes at `attr` and writes at most `info_len` bytes to `info`; both
    // live through the call and have the kernel's layout.
    let done = unsafe { libc::syscall(libc::SYS_bpf, CMD_OBJ_GET_INFO_BY_FD, &raw const attr, size_of::<InfoAttr>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(info.id) }
}

/// Numbers of the device programs that are attached to a cgroup (its directory) itself.
///
/// Errors: `EPERM` without CAP_NET_ADMIN (or CAP_SYS_ADMIN), `EINVAL` without CONFIG_CGROUP_BPF, `ENOSPC` for more than the kernel allows.
pub fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; MAX_ATTACHED];
    let mut attr = QueryAttr {
        target_fd: u32::try_from(cgroup.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MAX_ATTACHED as u32,
        padding: 0,
    };
    // SAFETY: bpf(BPF_PROG_QUERY) reads and writes `size_of::<QueryAttr>()` bytes at `attr` and writes at most `prog_cnt` numbers to
    // `prog_ids`, which has room for them; both live through the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, CMD_PROG_QUERY, &raw mut attr, size_of::<QueryAttr>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Runs the subset of eBPF that `assemble` emits, refusing anything else.
    fn run(code: &[Insn], access_type: u32, major: u32, minor: u32) -> u64 {
        let mut reg = [0u64; 11];
        let mut pc = 0usize;
        for _ in 0..code.len() + 1 {
            let i = code[pc];
            let (dst, src) = ((i.regs & 15) as usize, (i.regs >> 4) as usize);
            pc += 1;
            match i.code {
                LDX_MEM_W => {
                    assert_eq!(src, 1, "loads only from the context");
                    reg[dst] = u64::from([access_type, major, minor][i.off as usize / 4]);
                }
                ALU32_MOV_X => reg[dst] = u64::from(reg[src] as u32),
                ALU32_AND_K => reg[dst] = u64::from(reg[dst] as u32 & i.imm as u32),
                ALU32_RSH_K => reg[dst] = u64::from(reg[dst] as u32 >> i.imm),
                ALU64_MOV_K => reg[dst] = i64::from(i.imm) as u64,
                JMP_JNE_K => {
                    if reg[dst] != i64::from(i.imm) as u64 {
                        pc = pc.checked_add_signed(i.off as isize).unwrap();
                    }
                }
                JMP_EXIT => return reg[0],
                other => panic!("unknown opcode {other:#x}"),
            }
        }
        panic!("ran off the end");
    }

    fn rule(kind: DeviceType, major: u32, minor: u32, access: u32) -> DeviceRule {
        DeviceRule { kind, major, minor, access }
    }

    const CHAR: u32 = 2;
    const BLOCK: u32 = 1;

    #[test]
    fn an_empty_list_refuses_everything() {
        let code = assemble(&[]).unwrap();
        assert_eq!(run(&code, (ACCESS_READ << 16) | CHAR, 1, 3), 0);
    }

    #[test]
    fn exactly_what_is_listed_is_allowed() {
        let rules = [
            rule(DeviceType::Char, 1, 3, ACCESS_READ | ACCESS_WRITE),
            rule(DeviceType::Char, 195, 255, ACCESS_READ | ACCESS_WRITE | ACCESS_MKNOD),
            rule(DeviceType::Block, 8, 1, ACCESS_READ),
        ];
        let code = assemble(&rules).unwrap();
        for access in 1..8u32 {
            for kind in [CHAR, BLOCK] {
                for (major, minor) in [(1, 3), (195, 255), (8, 1), (1, 7), (3, 1), (195, 0)] {
                    let want = access == ACCESS_MKNOD
                        || rules.iter().any(|r| {
                            let k = if r.kind == DeviceType::Char { CHAR } else { BLOCK };
                            k == kind && (r.major, r.minor) == (major, minor) && access & !r.access == 0
                        });
                    let got = run(&code, (access << 16) | kind, major, minor);
                    assert_eq!(got, u64::from(want), "access {access} kind {kind} {major}:{minor}");
                }
            }
        }
    }

    #[test]
    fn too_many_rules_are_an_error_and_the_most_fit() {
        let many = vec![rule(DeviceType::Char, 1, 3, 7); MAX_RULES + 1];
        assert!(assemble(&many).is_err());
        assert!(assemble(&many[1..]).unwrap().len() <= 4096);
        assert!(assemble(&[rule(DeviceType::Char, u32::MAX, 0, 7)]).is_err());
    }

    /// A v2 cgroup that is gone afterwards.
    struct Group(std::path::PathBuf);

    impl Group {
        fn make() -> Option<Self> {
            // SAFETY: geteuid takes nothing and cannot fail.
            let root = unsafe { libc::geteuid() } == 0;
            let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(std::path::Path::new);
            let mount = mounts.into_iter().find(|m| m.join("cgroup.controllers").exists()).filter(|_| root)?;
            let path = mount.join(format!("rbee-hive-test-bpf-{}", std::process::id()));
            std::fs::create_dir(&path).ok().map(|()| Self(path))
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn an_attached_program_is_told_of_by_its_number_and_a_detached_one_is_not() {
        const CMD_PROG_DETACH: libc::c_long = 9;
        let Some(group) = Group::make() else { return eprintln!("SKIPPED: needs root and a cgroup v2 tree") };
        let dir: OwnedFd = std::fs::File::open(&group.0).unwrap().into();
        assert_eq!(attached(dir.as_fd()).unwrap(), []);
        let programs = [&[][..], &[rule(DeviceType::Char, 1, 3, ACCESS_READ)]].map(|r| load(&assemble(r).unwrap()).unwrap());
        let ids = programs.each_ref().map(|p| program_id(p.as_fd()).unwrap());
        assert_ne!(ids[0], ids[1]);
        for program in &programs {
            attach(dir.as_fd(), program.as_fd()).unwrap();
        }
        assert_eq!(attached(dir.as_fd()).unwrap(), ids);
        let attr = AttachAttr {
            target_fd: dir.as_raw_fd() as u32,
            attach_bpf_fd: programs[0].as_raw_fd() as u32,
            attach_type: ATTACH_TYPE_CGROUP_DEVICE,
            attach_flags: 0,
        };
        // SAFETY: bpf(BPF_PROG_DETACH) reads `size_of::<AttachAttr>()` bytes at `attr`, which lives through the call.
        let done = unsafe { libc::syscall(libc::SYS_bpf, CMD_PROG_DETACH, &raw const attr, size_of::<AttachAttr>()) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
        assert_eq!(attached(dir.as_fd()).unwrap(), [ids[1]]);
    }

    #[test]
    fn an_instruction_has_the_kernels_layout() {
        assert_eq!(size_of::<Insn>(), 8);
        assert_eq!(size_of::<LoadAttr>(), 64);
        assert_eq!(size_of::<AttachAttr>(), 16);
        assert_eq!((size_of::<QueryAttr>(), size_of::<InfoAttr>(), size_of::<ProgInfo>()), (32, 16, 8));
    }
}
