//! The system calls that a child may make.
//!
//! Two filters lie over each other, and the kernel obeys the sterner one. The first refuses
//! everything that is not on a short list, with an error: libraries probe for files and settings, and
//! get by without. The second ends the process over what no library does by itself, so that the host
//! hears of an attack.

use std::collections::BTreeMap;

use rustix::process::getpid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// Allowed whatever the arguments.
const ALLOWED: &[i64] = &[
    // The document, the session.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    // Locks, which one thread takes as well, and time.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // What is asked of oneself.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrusage,
    // Signals that this process gets, and its end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// No parser of documents comes across these.
const FATAL: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_mount,
    libc::SYS_unshare,
    libc::SYS_setns,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Whether the filters are in force from now on.
pub(crate) fn apply() -> bool {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return false;
    };
    match programs(arch) {
        Ok(programs) => programs.iter().all(|program| apply_filter(program).is_ok()),
        Err(_) => false,
    }
}

fn programs(arch: TargetArch) -> Result<[BpfProgram; 2], BackendError> {
    let own_pid = u64::from(getpid().as_raw_nonzero().get().cast_unsigned());
    let not_executable = || {
        let exec = libc::PROT_EXEC.cast_unsigned().into();
        only(2, SeccompCmpOp::MaskedEq(exec), 0)
    };
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    allowed.extend([
        // To the host, which is standard input.
        (libc::SYS_write, only(0, SeccompCmpOp::Eq, 0)?),
        (libc::SYS_mmap, not_executable()?),
        (libc::SYS_mprotect, not_executable()?),
        // By which `abort` ends this process. To others it is as good as `kill`.
        (libc::SYS_tgkill, only(0, SeccompCmpOp::Eq, own_pid)?),
        // Installs the second filter, and could only add further ones.
        (
            libc::SYS_seccomp,
            only(0, SeccompCmpOp::Eq, libc::SECCOMP_SET_MODE_FILTER.into())?,
        ),
        (
            libc::SYS_prctl,
            only(
                0,
                SeccompCmpOp::Eq,
                libc::PR_SET_NO_NEW_PRIVS.cast_unsigned().into(),
            )?,
        ),
        // Debug builds look whether a descriptor is open before they close it.
        (
            libc::SYS_fcntl,
            only(1, SeccompCmpOp::Eq, libc::F_GETFD.cast_unsigned().into())?,
        ),
    ]);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let allowed = SeccompFilter::new(allowed, refused, SeccompAction::Allow, arch)?;

    let mut fatal: BTreeMap<i64, Vec<SeccompRule>> =
        FATAL.iter().map(|call| (*call, Vec::new())).collect();
    fatal.insert(libc::SYS_tgkill, only(0, SeccompCmpOp::Ne, own_pid)?);
    let fatal = SeccompFilter::new(
        fatal,
        SeccompAction::Allow,
        SeccompAction::KillProcess,
        arch,
    )?;
    Ok([allowed.try_into()?, fatal.try_into()?])
}

/// One rule: the argument at `index` compares to `value`.
fn only(index: u8, op: SeccompCmpOp, value: u64) -> Result<Vec<SeccompRule>, BackendError> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)?;
    Ok(vec![SeccompRule::new(vec![condition])?])
}
