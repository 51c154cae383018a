use std::fs::File;
use std::io;

use async_trait::async_trait;
use futures::stream::StreamExt;
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{ExtractError, Extraction, Extractor};
use rustix::fs::{Mode, OFlags};

use crate::child::ocr;
use crate::control::{EngineSetup, Setup, WantedSetup};
use crate::error::PdfError;
use crate::isolation::Isolation;
use crate::options::{OcrMode, PdfOptions};
use crate::pool::child::{Source, Templates};
use crate::pool::document;
use crate::pool::template::{Launch, Template};

/// Grows with every change to what comes out of a document, and with no other.
const OUTPUT_VERSION: u32 = 4;

/// Reads PDFs page by page, in sandboxed processes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PdfExtractor {
    templates: Templates,
    options: PdfOptions,
}

impl PdfExtractor {
    /// Starts the process from which those come that read documents, unless an extractor with equal
    /// options has one. Takes some ten milliseconds, once, and blocks.
    ///
    /// # Errors
    /// [`init`](crate::init) was not called and the options name no other executable; that executable
    /// does not answer; the library is not there, or is no pdfium that fits; OCR is wanted and this
    /// program or machine lacks what it takes.
    pub fn new(options: PdfOptions) -> Result<Self, PdfError> {
        if options.child.is_none() && !crate::is_initialised() {
            return Err(PdfError::NotInitialised);
        }
        let unreadable = |source| PdfError::Unreadable {
            path: options.pdfium.clone(),
            source,
        };
        let pdfium = options.pdfium.canonicalize().map_err(unreadable)?;
        File::open(&pdfium).map_err(unreadable)?;
        let child = options.child.as_ref().map(|path| {
            path.canonicalize().map_err(|source| PdfError::Start {
                executable: path.clone(),
                source,
            })
        });
        #[cfg(feature = "hostile")]
        let layers = options.layers;
        #[cfg(not(feature = "hostile"))]
        let layers = crate::isolation::Layers::ALL;
        let text = Launch {
            executable: child.transpose()?,
            setup: Setup {
                pdfium,
                memory_bytes: options.memory_bytes,
                // A backstop for a host that is too busy to keep to its deadlines.
                cpu_seconds: 600 + options.page_timeout.as_secs().saturating_mul(20),
                layers,
                wanted: WantedSetup {
                    images: options.images,
                    ocr: options.ocr,
                    engine: None,
                },
            },
        };
        let ocr = match engine(&options)? {
            None => None,
            engine => {
                let mut launch = text.clone();
                launch.setup.wanted.engine = engine;
                Some(Template::shared(&launch)?)
            }
        };
        let text = Template::shared(&text)?;
        let templates = Templates { text, ocr };
        Ok(Self { templates, options })
    }

    /// What stands between documents and everything else, on this machine.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        Isolation::new(self.templates.text.layers())
    }
}

#[async_trait]
impl Extractor for PdfExtractor {
    fn fingerprint(&self) -> String {
        let images = if self.options.images { "+images" } else { "" };
        let ocr = match self.options.ocr {
            OcrMode::Off => String::new(),
            mode => {
                let languages = self.options.ocr_languages.join("+");
                format!("+ocr-{}-{languages}", mode.as_str())
            }
        };
        format!("pdf/{OUTPUT_VERSION}{images}{ocr}")
    }

    async fn extract(&self, request: ExtractRequest) -> Result<Extraction, ExtractError> {
        let file = read_only(request.file, request.size_bytes)?;
        let templates = self.templates.clone();
        let source = Source::new(
            templates,
            file,
            request.size_bytes,
            request.password,
            &self.options,
        );
        let reading = document::read(source, request.first_page).await?;
        tracing::debug!(
            document = %request.document,
            total_pages = reading.total_pages,
            "opened a PDF"
        );
        Ok(Extraction {
            total_pages: reading.total_pages,
            properties: reading.properties.clone(),
            pages: reading.pages().boxed(),
        })
    }
}

/// What OCR takes, where it is wanted. The language data are looked for here, since children have no
/// environment.
fn engine(options: &PdfOptions) -> Result<Option<EngineSetup>, PdfError> {
    if options.ocr == OcrMode::Off {
        return Ok(None);
    }
    let tessdata = ocr::tessdata(&options.ocr_languages, options.tessdata.as_deref());
    let tessdata = tessdata.map_err(|error| PdfError::Ocr {
        source: error.into(),
    })?;
    Ok(Some(EngineSetup {
        languages: options.ocr_languages.clone(),
        tessdata,
    }))
}

/// The same file, in a form that nobody can write to.
fn read_only(file: File, size_bytes: u64) -> Result<File, ExtractError> {
    let unreadable = |error: io::Error| ExtractError::Transient {
        message: "the file could not be read".to_owned(),
        source: Some(error.into()),
    };
    let found = file.metadata().map_err(unreadable)?.len();
    if found != size_bytes {
        return Err(ExtractError::transient(format!(
            "the file has {found} bytes where {size_bytes} were announced: it was cut off or replaced"
        )));
    }
    let flags = rustix::fs::fcntl_getfl(&file).map_err(|error| unreadable(error.into()))?;
    match flags & OFlags::ACCMODE {
        OFlags::RDONLY => Ok(file),
        OFlags::RDWR => {
            use std::os::fd::AsRawFd;
            let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            // Where there is no /proc, the sandbox alone keeps a child from writing.
            Ok(rustix::fs::open(itself, flags, Mode::empty()).map_or(file, File::from))
        }
        _ => Err(unreadable(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is open for writing only",
        ))),
    }
}
