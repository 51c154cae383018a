//! Runs the extractor over a directory of real documents and checks what it promises. (How fast it is
//! shows the bench `extract` of kbqueue-benches.)
//!
//! `cargo run --release -p kbqueue-pdf --all-features --example corpus -- DIR WHAT`, where WHAT is
//! - `outcomes`: every file of the directory, and what became of it;
//! - `show`: with a file in place of the directory, what comes out of it;
//! - `text`: whether every visible character is there and none from outside the page;
//! - `truncated`: 100 files of which 30 to 98 % are kept, and how many open;
//! - `mutants`: 2,000 damaged files, each of which must end in pages or in an error.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/common/damage.rs"]
mod damage;
mod reference;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use damage::Seeded;
use futures::StreamExt;
use kbqueue_core::extract::{ExtractRequest, ExtractedPage};
use kbqueue_core::{DocumentId, ExtractError, Extractor, Properties};
use kbqueue_pdf::{PdfExtractor, PdfOptions, find_pdfium};

/// Far longer than any document of this size takes.
const HANGS_AFTER: Duration = Duration::from_secs(120);
const SMALL_BYTES: u64 = 400_000;

struct Outcome {
    properties: Properties,
    pages: Vec<ExtractedPage>,
}

fn main() {
    kbqueue_pdf::init();
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(what)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: corpus DIR outcomes|show|text|truncated|mutants");
        std::process::exit(2);
    };
    let path = Path::new(&directory);
    if what == "reference" {
        return reference::print(path);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let extractor = PdfExtractor::new(PdfOptions::new(find_pdfium().unwrap())).unwrap();
    let files = files(path);
    runtime.block_on(async {
        match what.as_str() {
            "outcomes" => outcomes(&extractor, &files).await,
            "truncated" => truncated(&extractor, &files).await,
            "show" => show(&extractor, Path::new(&directory)).await,
            "text" => text(&extractor, &files).await,
            "mutants" => mutants(&extractor, &files).await,
            other => panic!("nothing is called {other}"),
        }
    });
}

/// All PDFs below the directory, in the order of their names.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if directory.is_file() {
        return vec![directory.to_owned()];
    }
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "pdf") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn extract(extractor: &PdfExtractor, file: File) -> Result<Outcome, ExtractError> {
    let size_bytes = file.metadata().unwrap().len();
    let request = ExtractRequest::new(DocumentId::new(), file, size_bytes);
    let run = async {
        let mut extraction = extractor.extract(request).await?;
        let mut pages = Vec::new();
        while let Some(page) = extraction.pages.next().await {
            pages.push(page?);
        }
        let properties = extraction.properties;
        Ok(Outcome { properties, pages })
    };
    tokio::time::timeout(HANGS_AFTER, run)
        .await
        .expect("a document hangs")
}

async fn extract_bytes(extractor: &PdfExtractor, bytes: &[u8]) -> Result<Outcome, ExtractError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    extract(extractor, file).await
}

async fn outcomes(extractor: &PdfExtractor, files: &[PathBuf]) {
    for path in files {
        let began = Instant::now();
        let outcome = extract(extractor, File::open(path).unwrap()).await;
        let took = began.elapsed().as_millis();
        let path = path.display();
        match outcome {
            Ok(Outcome { properties, pages }) => {
                let failed: Vec<_> = pages
                    .iter()
                    .filter_map(|page| page.failure.as_ref())
                    .collect();
                let chars: usize = pages.iter().map(|page| page.text.chars().count()).sum();
                let images: usize = pages.iter().map(|page| page.images.len()).sum();
                let reasons: std::collections::BTreeSet<_> = pages
                    .iter()
                    .map(|page| page.provenance.reason.as_str())
                    .collect();
                println!(
                    "{path}\t{took} ms\t{} pages\t{chars} chars\t{images} images\t{reasons:?}\t{}\t{:?}",
                    pages.len(),
                    if properties.is_repaired() {
                        "repaired"
                    } else {
                        ""
                    },
                    failed.first(),
                );
            }
            Err(error) => println!("{path}\t{took} ms\terror: {error}"),
        }
    }
}

/// Compares with a walk over every character, which another process makes.
async fn text(extractor: &PdfExtractor, files: &[PathBuf]) {
    let (mut pages, mut chars, mut wrong) = (0, 0, 0);
    for path in files {
        let Ok(outcome) = extract(extractor, File::open(path).unwrap()).await else {
            continue;
        };
        if outcome.properties.is_repaired() {
            continue;
        }
        let walked = std::process::Command::new(std::env::current_exe().unwrap())
            .arg(path)
            .arg("reference")
            .output()
            .unwrap();
        let walked = String::from_utf8(walked.stdout).unwrap();
        for (page, walked) in outcome.pages.iter().zip(walked.lines()) {
            let found = reference::counted(&page.text);
            let expected = reference::counted(walked);
            pages += 1;
            chars += expected.values().sum::<i64>();
            if found != expected
                && matches!(page.provenance.reason.as_str(), "text_layer" | "no_text")
            {
                wrong += 1;
                let difference = reference::difference(&found, &expected);
                println!("{} page {}: {difference}", path.display(), page.number);
            }
        }
    }
    println!("{pages} pages, {chars} characters; {wrong} pages differ");
    assert_eq!(wrong, 0);
}

async fn show(extractor: &PdfExtractor, file: &Path) {
    let outcome = extract(extractor, File::open(file).unwrap()).await.unwrap();
    println!("{:?}", outcome.properties);
    for page in outcome.pages {
        println!(
            "--- page {}: {:?} {:?}",
            page.number, page.provenance, page.failure
        );
        println!("{}", page.text);
        for (n, image) in page.images.iter().enumerate() {
            println!(
                "image {n}: {} {}x{} at {:?}, {} bytes, thumbnail {:?}, {:?}",
                image.media_type,
                image.width,
                image.height,
                image.bbox,
                image.bytes.len(),
                image.thumbnail.as_ref().map(|bytes| bytes.len()),
                image.caption
            );
            if let Some(directory) = std::env::var_os("IMAGES") {
                let name = file.file_stem().unwrap().to_string_lossy();
                let path = Path::new(&directory).join(format!("{name}-{}-{n}", page.number));
                let extension = image.media_type.rsplit('/').next().unwrap();
                fs::write(path.with_extension(extension), &image.bytes).unwrap();
                if let Some(thumbnail) = &image.thumbnail {
                    let small = format!("small.{extension}");
                    fs::write(path.with_extension(small), thumbnail).unwrap();
                }
            }
        }
    }
}

/// Small documents that are whole.
async fn small(extractor: &PdfExtractor, files: &[PathBuf]) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in files {
        let damaged = ["damaged", "zeropage", "encrypted", "synthetic", "pagesize"]
            .iter()
            .any(|class| path.components().any(|part| part.as_os_str() == *class));
        if !damaged
            && path.metadata().unwrap().len() < SMALL_BYTES
            && extract(extractor, File::open(path).unwrap()).await.is_ok()
        {
            found.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    found
}

async fn truncated(extractor: &PdfExtractor, files: &[PathBuf]) {
    let small = small(extractor, files).await;
    let mut seeded = Seeded(4);
    let mut opened = 0;
    let (mut kept, mut whole) = (0, 0);
    for n in 0..100 {
        let (path, bytes) = &small[n % small.len()];
        let cut = damage::truncated(bytes, &mut seeded);
        let original = extract_bytes(extractor, bytes).await.unwrap();
        let chars = |pages: &[ExtractedPage]| -> usize {
            pages.iter().map(|page| page.text.chars().count()).sum()
        };
        whole += chars(&original.pages);
        match extract_bytes(extractor, &cut).await {
            Ok(outcome) => {
                opened += 1;
                kept += chars(&outcome.pages);
            }
            Err(error) => println!(
                "{} of {} bytes of {}: {error}",
                cut.len(),
                bytes.len(),
                path.display()
            ),
        }
    }
    println!("{opened} of 100 truncated files open; {kept} of {whole} characters");
    assert!(opened >= 85);
}

async fn mutants(extractor: &PdfExtractor, files: &[PathBuf]) {
    let small = small(extractor, files).await;
    let mut seeded = Seeded(4);
    let (mut opened, mut repaired, mut slowest) = (0, 0, Duration::ZERO);
    for n in 0..2000 {
        let (_, bytes) = &small[n % small.len()];
        let began = Instant::now();
        if let Ok(outcome) = extract_bytes(extractor, &damage::mutant(bytes, &mut seeded)).await {
            opened += 1;
            repaired += usize::from(outcome.properties.is_repaired());
        }
        slowest = slowest.max(began.elapsed());
    }
    println!(
        "2000 mutants: {opened} open, {repaired} of them repaired; the slowest took {slowest:?}"
    );
}
