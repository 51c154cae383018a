//! A service in this process: the routers over a store in memory, and an extractor that does as told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use kbqueue_axum::{ApiOptions, ApiState, Tokens};
use kbqueue_core::extract::{ExtractRequest, ExtractedImage, ExtractedPage};
use kbqueue_core::library::Library;
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::store::Control;
use kbqueue_core::{
    BlobStore, ExtractError, Extraction, Extractor, MemoryStore, NewDocument, Processor,
    ProcessorOptions, Properties, QueueName, StoreExt,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::server::PATIENCE;

/// A running service. Dropping it ends it.
#[derive(Debug)]
pub struct Host {
    /// `http://127.0.0.1:PORT/dashboard`.
    pub dashboard: String,
    /// What it works on.
    pub store: Arc<dyn Library>,
    /// What its extractor is told.
    pub script: Arc<Script>,
    blobs: BlobStore,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// What the extractor does. To begin with it reads no page until it is let.
#[derive(Debug)]
pub struct Script {
    pages: Semaphore,
    broken: AtomicBool,
}

impl Script {
    /// Lets so many pages be read.
    pub fn read(&self, pages: usize) {
        self.pages.add_permits(pages);
    }

    /// Whether documents fail for good.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

impl Host {
    /// Starts a service with these tokens.
    ///
    /// # Panics
    /// Where there is no port or no directory to be had.
    pub async fn start(tokens: Tokens) -> Self {
        let store: Arc<dyn Library> = Arc::new(MemoryStore::new());
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobStore::connect(&format!("file:{}", dir.path().display())).unwrap();
        let script = Arc::new(Script {
            pages: Semaphore::new(0),
            broken: AtomicBool::new(false),
        });
        let mut processing = ProcessorOptions::default();
        processing.concurrency = 2;
        let extractor = Arc::new(Told(script.clone()));
        let processor = Processor::new(store.clone(), blobs.clone(), extractor, processing);
        processor.start();
        let mut options = ApiOptions::default();
        options.tokens = tokens;
        let state = ApiState::new(store.clone(), blobs.clone(), options).with_processor(processor);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = kbqueue_axum::router(state);
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            dashboard: format!("http://{address}/dashboard"),
            store,
            script,
            blobs,
            serving,
            _dir: dir,
        }
    }

    /// Puts a document into the queue, and answers with its id.
    ///
    /// # Panics
    /// Where it is not taken.
    pub async fn add(&self, name: &str, pages: u32, images: u32) -> String {
        let bytes = file(name, pages, images);
        let blob = self.blobs.put(bytes.into()).await.unwrap();
        let mut document = NewDocument::new(QueueName::default(), blob, name);
        document.metadata = serde_json::json!({ "source": "intake", "reviewed": false });
        self.store
            .enqueue_one(document)
            .await
            .unwrap()
            .id
            .to_string()
    }

    /// Puts documents in every state on show, and answers with the ids of one that is completed, one that
    /// failed and one that is processing.
    ///
    /// # Panics
    /// Where the store does not do as asked.
    pub async fn stage(&self) -> [String; 3] {
        self.script.set_broken(true);
        let failed = self.add("invoice-2024-03.pdf", 4, 0).await;
        self.finished(&failed).await;
        self.script.set_broken(false);
        let mut completed = String::new();
        for (name, pages, images) in [
            ("lecture-notes.pdf", 7, 0),
            ("clinical-guideline.pdf", 30, 3),
            ("annual-report.pdf", 12, 8),
        ] {
            self.script.read(pages as usize);
            completed = self.add(name, pages, images).await;
            self.finished(&completed).await;
        }
        let processing = self.add("handbook-of-cardiology.pdf", 240, 5).await;
        self.until_page(&processing, 96).await;
        let other = self.add("discharge-letters.pdf", 40, 2).await;
        self.until_page(&other, 9).await;
        let cancelled = self.add("uploaded-twice.pdf", 3, 0).await;
        for name in ["scan-0417.pdf", "scan-0418.pdf"] {
            self.add(name, 5, 0).await;
        }
        let control = Control::Cancel;
        let id = cancelled.parse().unwrap();
        self.store.control(id, control).await.unwrap();
        [completed, failed, processing]
    }

    /// Lets pages be read one by one until this document is so far.
    async fn until_page(&self, id: &str, page: u32) {
        let started = Instant::now();
        while self.page_of(id).await < page {
            self.script.read(1);
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert!(started.elapsed() < PATIENCE, "{id} stands still");
        }
    }

    async fn page_of(&self, id: &str) -> u32 {
        let document = self.store.find(id.parse().unwrap()).await.unwrap();
        document.lifecycle.progress.current_page
    }

    /// Waits until a document is completed, failed or cancelled.
    ///
    /// # Panics
    /// Where there is no such document.
    pub async fn finished(&self, id: &str) {
        self.store.wait_finished(id.parse().unwrap()).await.unwrap();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A file out of which the extractor makes so many pages and images.
#[must_use]
pub fn file(name: &str, pages: u32, images: u32) -> String {
    format!("%PDF-1.7\n{name}\n{pages} {images}\n")
}

struct Told(Arc<Script>);

#[async_trait]
impl Extractor for Told {
    fn fingerprint(&self) -> String {
        "told/1".to_owned()
    }

    async fn extract(&self, mut request: ExtractRequest) -> Result<Extraction, ExtractError> {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut request.file, &mut text)
            .map_err(|error| ExtractError::permanent(error.to_string()))?;
        let mut numbers = text
            .lines()
            .nth(2)
            .unwrap_or_default()
            .split(' ')
            .map(|number| number.parse().unwrap_or(0));
        let (total_pages, images) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if self.0.broken.load(Ordering::SeqCst) {
            let message = "the PDF is damaged: its structure cannot be read; open it in a PDF viewer \
                           and save or print it as a new PDF";
            return Err(ExtractError::permanent(message));
        }
        let script = self.0.clone();
        let pages = stream::iter(request.first_page..=total_pages).then(move |number| {
            let script = script.clone();
            async move {
                // Never closed, so there is always a permit to wait for.
                if let Ok(permit) = script.pages.acquire().await {
                    permit.forget();
                }
                Ok(page(number, images))
            }
        });
        let title = text.lines().nth(1).unwrap_or_default().to_owned();
        Ok(Extraction {
            total_pages,
            properties: Properties([("title".to_owned(), title)].into()),
            pages: pages.boxed(),
        })
    }
}

/// The images are spread over the first pages, one on each.
fn page(number: u32, images: u32) -> ExtractedPage {
    let sentence = "The quick brown fox jumps over the lazy dog, and is seen doing so. ";
    let images = (number <= images).then(|| image(number));
    ExtractedPage {
        number,
        label: None,
        section: Some(format!("Chapter {}", number.div_ceil(4))),
        provenance: Provenance {
            source: PageSource::Text,
            reason: "told".to_owned(),
            confidence: None,
        },
        text: format!("Page {number}.\n{}", sentence.repeat(25)),
        failure: None,
        images: images.into_iter().collect(),
    }
}

/// A chart that looks like one.
fn image(number: u32) -> ExtractedImage {
    let (width, height) = (480, 320);
    let bars: String = (0..6)
        .map(|bar| {
            let tall = 40 + (bar * 53 + number * 37) % 200;
            let (x, y) = (40 + bar * 70, 280 - tall);
            let hue = (number * 47) % 360;
            format!(r#"<rect x="{x}" y="{y}" width="46" height="{tall}" rx="6" fill="hsl({hue} 60% 50%)"/>"#)
        })
        .collect();
    let svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><rect width="100%" height="100%" fill="#fff"/><path d="M30 282h420" stroke="#999"/>{bars}</svg>"##
    );
    ExtractedImage {
        bytes: svg.into(),
        media_type: "image/svg+xml".to_owned(),
        width,
        height,
        bbox: [72.0, 72.0, 312.0, 232.0],
        caption: Some(format!("Figure {number}: what was measured")),
        thumbnail: None,
    }
}
