//! A child that attacks. Its documents are scripts: the first line is done when it is opened, and
//! each of the others is a page.
#![allow(clippy::unwrap_used, missing_docs)]
#![allow(unsafe_code, reason = "attackers do not keep to the rules")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, hint, io, process, ptr, thread};

use futures::StreamExt;
use kbqueue_core::extract::{ExtractRequest, ExtractedPage};
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::{DocumentId, ExtractError, Extractor, Properties};
use kbqueue_pdf::hostile::{Pages, init_with};
use kbqueue_pdf::{OcrMode, PdfExtractor, PdfOptions};

fn main() {
    init_with(open);
    // As a host of its own, which reads a script until someone kills it.
    let path = env::args().nth(1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut options = PdfOptions::new("/proc/self/exe");
        options.ocr = OcrMode::Off;
        let extractor = PdfExtractor::new(options).unwrap();
        let file = File::open(path).unwrap();
        let size_bytes = file.metadata().unwrap().len();
        let request = ExtractRequest::new(DocumentId::new(), file, size_bytes);
        let extraction = extractor.extract(request).await.unwrap();
        extraction.pages.count().await;
    });
}

struct Script(Vec<String>);

fn open(file: File, size_bytes: u64) -> Result<Box<dyn Pages>, ExtractError> {
    // Not by a plain read: the position in the file is shared with all other children.
    let mut script = vec![0; usize::try_from(size_bytes).unwrap()];
    file.read_exact_at(&mut script, 0).unwrap();
    let script = String::from_utf8(script).unwrap();
    let mut lines = script.lines().map(str::to_owned);
    perform(&lines.next().unwrap()).map_err(|error| ExtractError::permanent(error.to_string()))?;
    Ok(Box::new(Script(lines.collect())))
}

impl Pages for Script {
    fn total_pages(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn properties(&self) -> Properties {
        Properties::default()
    }

    fn page(&mut self, number: u32) -> Result<Option<ExtractedPage>, ExtractError> {
        let line = &self.0[number as usize - 1];
        if line == "ocr" {
            return Ok(None);
        }
        Ok(Some(page(number, perform(line))))
    }
}

fn page(number: u32, outcome: io::Result<String>) -> ExtractedPage {
    let (text, failure) = match outcome {
        Ok(text) => (text, None),
        Err(error) => (String::new(), Some(format!("refused: {error}"))),
    };
    ExtractedPage {
        number,
        label: None,
        section: None,
        provenance: Provenance {
            source: PageSource::Text,
            reason: "script".to_owned(),
            confidence: None,
        },
        text,
        failure,
        images: Vec::new(),
    }
}

/// What the line says; an error where the system refused it.
fn perform(line: &str) -> io::Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["ok"] => {}
        ["pid"] => return Ok(process::id().to_string()),
        ["large", bytes] => return Ok("x".repeat(bytes.parse().unwrap())),
        ["work", millis] => {
            let end = Instant::now() + Duration::from_millis(millis.parse().unwrap());
            while Instant::now() < end {
                hint::spin_loop();
            }
            return Ok(process::id().to_string());
        }
        ["sleep"] => thread::sleep(Duration::from_secs(3600)),
        // Needs a way to the file, so there must be no walls.
        ["once", path, action] => {
            if !Path::new(path).exists() {
                fs::write(path, "")?;
                return perform(action);
            }
        }
        ["log", path, word] => {
            let mut log = OpenOptions::new().append(true).create(true).open(path)?;
            writeln!(log, "{} {word}", process::id())?;
            return perform(word);
        }

        // SAFETY: none whatsoever.
        ["segv"] => unsafe { ptr::with_exposed_provenance_mut::<u8>(8).write_volatile(1) },
        ["abort"] => process::abort(),
        ["panic"] => panic!("on purpose"),
        ["exit"] => process::exit(3),
        ["spin"] => loop {
            hint::spin_loop();
        },
        ["memory"] => {
            let mut hoard = vec![1_u8];
            loop {
                hoard.extend_from_within(..);
                hint::black_box(&hoard);
            }
        }
        ["flood"] => loop {
            session().write_all(&[1; 4096])?;
        },
        ["garbage"] => session().write_all(b"\x05\0\0\0\x03spam")?,
        ["huge"] => session().write_all(&u32::MAX.to_le_bytes())?,
        ["empty"] => session().write_all(&[0; 4])?,
        // An opening with more pages than can be counted on.
        ["boast"] => session().write_all(b"\x09\0\0\0\x01\xff\xff\xff\xff\0\0\0\0")?,
        ["half"] => {
            session().write_all(b"\xff\0\0\0\x03")?;
            process::exit(0);
        }
        ["hangup"] => {
            // SAFETY: of the attacker's own making.
            unsafe { libc::close(0) };
            return perform("spin");
        }

        ["descriptors"] => {
            // SAFETY: no memory is involved.
            let open = (0..256).filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } != -1);
            return Ok(open.count().to_string());
        }
        ["passwd"] => return fs::read_to_string("/etc/passwd"),
        ["create", path] => fs::write(path, "was here")?,
        ["connect", address] => {
            TcpStream::connect(address)?;
        }
        ["exec", path] => {
            let script = format!(": > {path}");
            let arguments = [c"sh", c"-c", &std::ffi::CString::new(script).unwrap()];
            let mut pointers: Vec<_> = arguments.iter().map(|a| a.as_ptr()).collect();
            pointers.push(ptr::null());
            // SAFETY: a list of strings that ends in null.
            unsafe { libc::execv(c"/bin/sh".as_ptr(), pointers.as_ptr()) };
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no memory is involved.
        ["fork"] => match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => process::exit(0),
            _ => {}
        },
        // SAFETY: no memory is involved.
        ["signal"] => return checked(unsafe { libc::kill(libc::getppid(), libc::SIGCONT) }),
        // SAFETY: no memory is involved.
        ["ptrace"] => {
            return checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, libc::getppid(), 0, 0) });
        }
        // SAFETY: no memory is involved.
        ["executable"] => {
            let map = unsafe {
                let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                libc::mmap(ptr::null_mut(), 4096, access, flags, -1, 0)
            };
            if map == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        _ => panic!("no such action: {line}"),
    }
    Ok("done".to_owned())
}

fn checked(result: impl Into<i64>) -> io::Result<String> {
    if result.into() == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok("done".to_owned())
}

/// The socket to the host.
fn session() -> std::mem::ManuallyDrop<File> {
    // SAFETY: not closed here.
    std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(io::stdin().as_raw_fd()) })
}
