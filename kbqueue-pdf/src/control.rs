//! What passes between the host and its template, and how the template is started.
//!
//! The template is the process of which all children are forks. It reads no document, so unlike a
//! child's frames its messages are trusted; they are small, and of one size for each direction.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::isolation::Layers;
use crate::options::OcrMode;

/// The first argument of a template, by which [`init`](crate::init) knows one.
const MARK: &str = "kbqueue-pdf-template";

/// What a template is told when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Setup {
    pub(crate) pdfium: PathBuf,
    /// What a child may allocate, beside the size of its document.
    pub(crate) memory_bytes: u64,
    /// CPU time of a child.
    pub(crate) cpu_seconds: u64,
    /// The layers to put around children, as far as the kernel has them.
    pub(crate) layers: Layers,
    pub(crate) wanted: WantedSetup,
}

/// What children are to give beside text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct WantedSetup {
    pub(crate) images: bool,
    pub(crate) ocr: OcrMode,
    /// `None`: pages that take OCR are left to the children of another template.
    pub(crate) engine: Option<EngineSetup>,
}

/// Tesseract's languages, by its names, and the directory of their data.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EngineSetup {
    pub(crate) languages: Vec<String>,
    pub(crate) tessdata: PathBuf,
}

impl Setup {
    /// The arguments of a template whose host is the process `host`.
    pub(crate) fn to_args(&self, host: u32) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![MARK.into(), self.pdfium.clone().into()];
        let numbers = [
            u64::from(host),
            self.memory_bytes,
            self.cpu_seconds,
            self.layers.bits().into(),
        ];
        args.extend(numbers.map(|number| number.to_string().into()));
        let wanted = &self.wanted;
        args.push(if wanted.images { "images" } else { "text" }.into());
        args.push(wanted.ocr.as_str().into());
        if let Some(engine) = &wanted.engine {
            args.push(engine.languages.join("+").into());
            args.push(engine.tessdata.clone().into());
        }
        args
    }

    /// The set-up and the host, if these are the arguments of a template.
    pub(crate) fn from_args(mut args: impl Iterator<Item = OsString>) -> Option<(Self, u32)> {
        args.next().filter(|arg| arg == MARK)?;
        let pdfium = args.next()?.into();
        let mut number = || args.next()?.to_str()?.parse::<u64>().ok();
        let host = u32::try_from(number()?).ok()?;
        let (memory_bytes, cpu_seconds) = (number()?, number()?);
        let layers = Layers::from_bits(u8::try_from(number()?).ok()?);
        let mut word = || args.next()?.into_string().ok();
        let wanted = WantedSetup {
            images: word()? == "images",
            ocr: OcrMode::parse(&word()?)?,
            engine: match args.next() {
                None => None,
                Some(languages) => Some(EngineSetup {
                    languages: languages.to_str()?.split('+').map(str::to_owned).collect(),
                    tessdata: args.next()?.into(),
                }),
            },
        };
        let setup = Self {
            pdfium,
            memory_bytes,
            cpu_seconds,
            layers,
            wanted,
        };
        Some((setup, host))
    }
}

/// What the host wants of the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// A child for the document that comes with the message, and the child's end of its session.
    Fork { id: u64, size_bytes: u64 },
    /// The child's end. A child that has ended already is no mistake.
    Kill { id: u64 },
}

impl Command {
    const BYTES: usize = 17;

    pub(crate) fn send(self, to: &UnixStream, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let (kind, id, size_bytes) = match self {
            Self::Fork { id, size_bytes } => (1, id, size_bytes),
            Self::Kill { id } => (2, id, 0),
        };
        let mut bytes = [kind; Self::BYTES];
        bytes[1..9].copy_from_slice(&id.to_le_bytes());
        bytes[9..].copy_from_slice(&size_bytes.to_le_bytes());

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let sent = rustix::io::retry_on_intr(|| {
            sendmsg(
                to,
                &[IoSlice::new(&bytes)],
                &mut ancillary,
                SendFlags::empty(),
            )
        })?;
        // The descriptors went with the first byte.
        let mut to = to;
        to.write_all(&bytes[sent..])
    }

    /// `None` when the host has gone.
    pub(crate) fn receive(from: BorrowedFd<'_>) -> io::Result<Option<(Self, Vec<OwnedFd>)>> {
        let mut bytes = [0; Self::BYTES];
        let mut filled = 0;
        let mut fds = Vec::new();
        while filled < Self::BYTES {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = recvmsg(
                from,
                &mut [IoSliceMut::new(&mut bytes[filled..])],
                &mut ancillary,
                RecvFlags::empty(),
            );
            let received = match received {
                Ok(received) => received.bytes,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(sent) = message {
                    fds.extend(sent);
                }
            }
            if received == 0 {
                return Ok(None);
            }
            filled += received;
        }
        let number = |range: std::ops::Range<usize>| {
            u64::from_le_bytes(bytes[range].try_into().expect("eight bytes"))
        };
        let id = number(1..9);
        let command = match bytes[0] {
            1 => Self::Fork {
                id,
                size_bytes: number(9..17),
            },
            _ => Self::Kill { id },
        };
        Ok(Some((command, fds)))
    }
}

/// What the template has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// All is loaded, and these layers are around every child.
    Ready { layers: Layers },
    /// It cannot serve. The reason follows as text, to the end of the stream.
    Failed { part: Part },
    /// A child has ended.
    Ended { id: u64, end: End },
}

/// Of what a template is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Program,
    Pdfium,
    Ocr,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// As `wait` gives it.
    pub(crate) status: i32,
    /// The most memory that it had at once.
    pub(crate) peak_kib: u64,
}

impl End {
    /// Instead of a status: there was no child, because the system would not make one.
    pub(crate) const NEVER_BEGAN: i32 = -1;
    /// The exit code of a child that has read nothing, because a layer was missing around it.
    pub(crate) const UNPROTECTED: i32 = 102;

    /// By SIGKILL, which children get from the host and from an operating system without memory.
    pub(crate) fn was_killed(self) -> bool {
        libc::WIFSIGNALED(self.status) && libc::WTERMSIG(self.status) == libc::SIGKILL
    }
}

impl Report {
    const BYTES: usize = 21;

    pub(crate) fn send(self, mut to: impl Write) -> io::Result<()> {
        let mut bytes = [0; Self::BYTES];
        match self {
            Self::Ready { layers } => {
                bytes[0] = 1;
                bytes[1] = layers.bits();
            }
            Self::Failed { part } => {
                bytes[0] = 2;
                bytes[1] = match part {
                    Part::Program => 0,
                    Part::Pdfium => 1,
                    Part::Ocr => 2,
                };
            }
            Self::Ended { id, end } => {
                bytes[0] = 3;
                bytes[1..9].copy_from_slice(&id.to_le_bytes());
                bytes[9..13].copy_from_slice(&end.status.to_le_bytes());
                bytes[13..].copy_from_slice(&end.peak_kib.to_le_bytes());
            }
        }
        to.write_all(&bytes)
    }

    pub(crate) fn receive(mut from: impl Read) -> io::Result<Self> {
        let mut bytes = [0; Self::BYTES];
        from.read_exact(&mut bytes)?;
        let number =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        match bytes[0] {
            1 => Ok(Self::Ready {
                layers: Layers::from_bits(bytes[1]),
            }),
            2 => Ok(Self::Failed {
                part: match bytes[1] {
                    0 => Part::Program,
                    1 => Part::Pdfium,
                    _ => Part::Ocr,
                },
            }),
            3 => Ok(Self::Ended {
                id: number(1),
                end: End {
                    status: i32::from_le_bytes(bytes[9..13].try_into().expect("four bytes")),
                    peak_kib: number(13),
                },
            }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Whether standard input is the socket to a host: nobody types one.
pub(crate) fn has_host() -> bool {
    rustix::net::sockopt::socket_domain(rustix::stdio::stdin().as_fd())
        .is_ok_and(|domain| domain == rustix::net::AddressFamily::UNIX)
}
