//! The walls around a child. They go up before it reads a byte of its document.
//!
//! Nothing here fails: a layer that the kernel does not have is missing, and the answer says so.

#[cfg(target_os = "linux")]
mod filter;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

use crate::isolation::Layers;

/// pdfium recurses on nested objects; only what is used takes memory.
const STACK_BYTES: u64 = 16 << 20;

/// What a child may use up.
pub(crate) struct Limits {
    pub(crate) address_space_bytes: u64,
    pub(crate) cpu_seconds: u64,
}

/// Has the kernel kill this process when its parent ends, and ends it if that has happened already.
pub(crate) fn die_with_parent(parent: Option<Pid>) {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if rustix::process::getppid() != parent {
        std::process::exit(0);
    }
}

/// Puts up those of the layers that there are, and tells which.
pub(crate) fn enter(limits: &Limits, wanted: Layers) -> Layers {
    let mut active = Layers::NONE;
    raise_stack();
    if wanted.has(Layers::BASICS) && basics() {
        active.add(Layers::BASICS);
    }
    #[cfg(target_os = "linux")]
    if wanted.has(Layers::LANDLOCK) {
        match landlock() {
            Some(landlock::RulesetStatus::FullyEnforced) => {
                active.add(Layers::LANDLOCK);
                active.add(Layers::LANDLOCK_FULL);
            }
            Some(landlock::RulesetStatus::PartiallyEnforced) => active.add(Layers::LANDLOCK),
            Some(landlock::RulesetStatus::NotEnforced) | None => {}
        }
    }
    // Behind landlock, which opens a descriptor.
    if wanted.has(Layers::LIMITS) && limit(limits) {
        active.add(Layers::LIMITS);
    }
    // Last, because it would not let the others go up.
    #[cfg(target_os = "linux")]
    if wanted.has(Layers::SECCOMP) && filter::apply() {
        active.add(Layers::SECCOMP);
    }
    active
}

/// What the template can do without as well: it has loaded what there is to load.
pub(crate) fn seclude_template(wanted: Layers) {
    if wanted.has(Layers::BASICS) {
        basics();
    }
    #[cfg(target_os = "linux")]
    if wanted.has(Layers::LANDLOCK) {
        let _ = landlock();
    }
}

fn basics() -> bool {
    set(Resource::Core, 0) & keep_apart()
}

/// No privileges from now on, and no looks into it by processes of the same user.
#[cfg(target_os = "linux")]
fn keep_apart() -> bool {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    set_dumpable_behavior(DumpableBehavior::NotDumpable).is_ok()
        & rustix::thread::set_no_new_privs(true).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn keep_apart() -> bool {
    true
}

fn limit(limits: &Limits) -> bool {
    set(Resource::As, limits.address_space_bytes)
        & set(Resource::Cpu, limits.cpu_seconds)
        // What is open stays open; nothing more can be.
        & set(Resource::Nofile, 0)
        & set(Resource::Fsize, 0)
        & set(Resource::Nproc, 0)
}

fn set(resource: Resource, value: u64) -> bool {
    let value = getrlimit(resource)
        .maximum
        .map_or(value, |max| value.min(max));
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(resource, limit).is_ok()
}

fn raise_stack() {
    let mut limit = getrlimit(Resource::Stack);
    let size = limit
        .maximum
        .map_or(STACK_BYTES, |max| max.min(STACK_BYTES));
    if limit.current.is_some_and(|current| current < size) {
        limit.current = Some(size);
        let _ = setrlimit(Resource::Stack, limit);
    }
}

/// Denies everything that landlock can deny: files, TCP, signals to others, and abstract sockets.
#[cfg(target_os = "linux")]
fn landlock() -> Option<landlock::RulesetStatus> {
    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};

    // The first version with all of this; from an older kernel, what it has.
    let version = ABI::V6;
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(version))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(version)))
        .and_then(|rules| rules.scope(Scope::from_all(version)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    Some(restricted.ok()?.ruleset)
}
