//! The template: a process that has loaded everything and seen nothing, of which children are forks.
//!
//! A fork costs a fraction of what a new process does, which would have to load pdfium again.
#![allow(
    unsafe_code,
    reason = "fork, wait4, close_range and _exit have no safe binding; each says why it is right here"
)]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{fs, io, process};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Signal, getpid, getrlimit, kill_process};

use super::sandbox::{self, Limits};
use super::serve::{self, HostSocket, Open};
use crate::control::{Command, End, Part, Report, Setup};
use crate::isolation::Layers;

/// Exit codes of a child.
const DONE: i32 = 0;
const PANICKED: i32 = 101;

struct Template {
    setup: Setup,
    open: Open,
    /// What every child has around it.
    layers: Layers,
    /// The address space that the process takes up before it has read anything.
    base_bytes: u64,
    children: Vec<Running>,
}

struct Running {
    id: u64,
    pid: Pid,
    /// The other end is open in the child alone, so this one is readable when the child has ended.
    life: OwnedFd,
}

/// Runs a template whose host is the process `host`, to its end. The control socket is standard
/// input.
pub(crate) fn run(
    setup: Setup,
    host: u32,
    prepare: impl FnOnce(&Setup) -> Result<Open, (Part, String)>,
) -> ! {
    sandbox::die_with_parent(Pid::from_raw(host.cast_signed()));
    close_inherited();
    let prepared = single_threaded(
        "it runs threads already; kbqueue_pdf::init() must come first in main, before any thread \
         or runtime",
    )
    .and_then(|()| prepare(&setup))
    .and_then(|open| {
        single_threaded("a library that it has loaded runs threads of its own")?;
        Ok(open)
    });
    let control = rustix::stdio::stdin();
    let mut out = HostSocket;
    match prepared {
        Err((part, reason)) => {
            let _ = (Report::Failed { part }).send(&mut out);
            let _ = io::Write::write_all(&mut out, reason.as_bytes());
        }
        Ok(open) => {
            let mut template = Template {
                base_bytes: address_space(),
                setup,
                open,
                layers: Layers::NONE,
                children: Vec::new(),
            };
            template.layers = template.probe();
            sandbox::seclude_template(template.setup.layers);
            let layers = template.layers;
            if (Report::Ready { layers }).send(&mut out).is_ok() {
                template.serve(control);
            }
        }
    }
    process::exit(0)
}

impl Template {
    fn serve(&mut self, control: impl AsFd) {
        loop {
            let mut polled = vec![PollFd::new(&control, PollFlags::IN)];
            let lives = self.children.iter();
            polled.extend(lives.map(|child| PollFd::new(&child.life, PollFlags::IN)));
            match poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
            let commanded = ready.next().expect("the control socket is polled");
            let ended: Vec<bool> = ready.collect();
            drop(polled);
            for index in (0..ended.len()).rev().filter(|index| ended[*index]) {
                let child = self.children.swap_remove(index);
                let id = child.id;
                let end = bury(&child);
                if (Report::Ended { id, end }).send(HostSocket).is_err() {
                    return;
                }
            }
            if commanded {
                match Command::receive(control.as_fd()) {
                    Ok(Some((Command::Fork { id, size_bytes }, fds))) => {
                        if self.fork(id, size_bytes, fds).is_err() {
                            let end = End {
                                status: End::NEVER_BEGAN,
                                peak_kib: 0,
                            };
                            let _ = (Report::Ended { id, end }).send(HostSocket);
                        }
                    }
                    Ok(Some((Command::Kill { id }, _))) => {
                        let child = self.children.iter().find(|child| child.id == id);
                        if let Some(child) = child {
                            let _ = kill_process(child.pid, Signal::KILL);
                        }
                    }
                    // The children die with this process.
                    Ok(None) | Err(_) => return,
                }
            }
        }
    }

    fn fork(&mut self, id: u64, size_bytes: u64, fds: Vec<OwnedFd>) -> io::Result<()> {
        let [document, session] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (life, held) = rustix::pipe::pipe()?;
        let template = getpid();
        match fork()? {
            Some(pid) => {
                self.children.push(Running { id, pid, life });
                Ok(())
            }
            None => {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    // Only what is this child's own stays open.
                    self.children.clear();
                    drop(life);
                    let connected = rustix::stdio::dup2_stdin(&session);
                    drop(session);
                    let layers = self.enter_sandbox(template, size_bytes);
                    // On standard input it would find the template's socket.
                    if connected.is_err() || layers != self.layers {
                        exit(End::UNPROTECTED);
                    }
                    let _ = serve::serve(&self.open, File::from(document), size_bytes);
                }));
                // Closed by the exit and not before: until then this child counts as alive.
                std::mem::forget(held);
                exit(if outcome.is_ok() { DONE } else { PANICKED })
            }
        }
    }

    fn enter_sandbox(&self, template: Pid, size_bytes: u64) -> Layers {
        sandbox::die_with_parent(Some(template));
        let limits = Limits {
            address_space_bytes: self
                .base_bytes
                .saturating_add(size_bytes)
                .saturating_add(self.setup.memory_bytes),
            cpu_seconds: self.setup.cpu_seconds,
        };
        sandbox::enter(&limits, self.setup.layers)
    }

    /// Which layers this kernel has: a child tries all of them and tells by its exit code.
    fn probe(&self) -> Layers {
        let template = getpid();
        match fork() {
            Ok(None) => exit(self.enter_sandbox(template, 0).bits().into()),
            Ok(Some(pid)) => {
                let end = wait(pid);
                if libc::WIFEXITED(end.status) {
                    let bits = libc::WEXITSTATUS(end.status);
                    return Layers::from_bits(u8::try_from(bits).unwrap_or(0));
                }
                Layers::NONE
            }
            Err(_) => Layers::NONE,
        }
    }
}

/// Closes what the host has opened without a thought to the processes that it starts: sockets that a
/// supervisor passed to it, for instance. No child may find those.
fn close_inherited() {
    // SAFETY: nothing here has opened a descriptor yet that it would go on to use.
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) == 0 {
            return;
        }
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        for fd in 3..i32::try_from(limit.min(1 << 16)).unwrap_or(i32::MAX) {
            libc::close(fd);
        }
    }
}

/// A fork has one thread, whatever locks the others held.
fn single_threaded(otherwise: &str) -> Result<(), (Part, String)> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Ok(());
    };
    if threads.count() == 1 {
        return Ok(());
    }
    Err((Part::Program, otherwise.to_owned()))
}

/// The address space of this process, in bytes; 0 where it cannot be told.
fn address_space() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split(' ').next()?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// `None` in the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the process has a single thread, which was checked, so that the child's state is whole.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Ends a child at once: what the C++ libraries do at exit is of no use in a fork.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process without running anything more of it.
    unsafe { libc::_exit(code) }
}

/// Waits for a child that has ended, or has closed its sign of life, which an honest one never does.
fn bury(child: &Running) -> End {
    // For one that is ending already, this changes nothing.
    let _ = kill_process(child.pid, Signal::KILL);
    wait(child.pid)
}

fn wait(pid: Pid) -> End {
    let mut status = 0;
    // SAFETY: all zeros is a valid value of this plain C struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both targets are writable.
        let waited = unsafe {
            libc::wait4(
                pid.as_raw_nonzero().get(),
                &raw mut status,
                0,
                &raw mut usage,
            )
        };
        if waited != -1 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    // Kilobytes on Linux, bytes on macOS.
    let unit = if cfg!(target_os = "macos") { 1024 } else { 1 };
    End {
        status,
        peak_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0) / unit,
    }
}
