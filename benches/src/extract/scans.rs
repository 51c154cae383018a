//! OCR beside the `tesseract` command, on pages whose text is known: drawn from documents with a text
//! layer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use futures::StreamExt;
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{DocumentId, Extractor};
use kbqueue_pdf::{OcrMode, PdfExtractor, PdfOptions, find_pdfium};

use super::{Took, cpu_time, open, pdfium, timed};
use crate::Arguments;
use crate::report::Report;

/// Pages of prose, from 0; of the second, in two columns with formulas and code.
const SOURCES: [(&str, &str, &str); 2] = [
    ("long/freeculture.pdf", "15,20,25,30,35,40", "prose"),
    ("multicolumn/tracemonkey.pdf", "1,4,6,9", "two columns"),
];

struct Scan {
    image: PathBuf,
    truth: String,
}

/// Seconds of all cores a page, and the share of characters that are wrong.
#[derive(Default)]
struct Figures {
    cpu: Vec<f64>,
    wall: Vec<f64>,
    wrong: Vec<f64>,
}

pub(super) async fn run(corpus: &Path, arguments: &Arguments, report: &mut Report) {
    for (file, numbers, name) in SOURCES {
        let directory = tempfile::tempdir().expect("there is room");
        pdfium::draw(&corpus.join(file), numbers, directory.path());
        let scans: Vec<Scan> = numbers
            .split(',')
            .map(|number| Scan {
                image: directory.path().join(format!("{number}.pgm")),
                truth: fs::read_to_string(directory.path().join(format!("{number}.txt")))
                    .expect("it was written"),
            })
            .collect();
        let document = directory.path().join("scans.pdf");
        fs::write(&document, scanned(&scans)).expect("there is room");

        let mut ours = Figures::default();
        let (mut each, mut once) = (Figures::default(), Figures::default());
        for _ in 0..arguments.repeats {
            let (took, texts) = extracted(&document).await;
            ours.add(took, &scans, &texts);
            let (took, texts) = command_for_each(&scans);
            each.add(took, &scans, &texts);
            let (took, texts) = command_for_all(&scans, directory.path());
            once.add(took, &scans, &texts);
        }
        let pages = scans.len();
        for (command, theirs) in [
            ("tesseract, a page a call", &each),
            ("tesseract, one call", &once),
        ] {
            let row = |what: &str| format!("OCR of {pages} pages of {name}: {what}");
            let mut add = |what, unit, ours: &[f64], theirs: &[f64]| {
                report.add("OCR", &row(what), unit, ours, (command, theirs));
            };
            add("pages/s and core", "/s", &ours.cpu, &theirs.cpu);
            add("pages/s, as time passes", "/s", &ours.wall, &theirs.wall);
            add("characters wrong", "%", &ours.wrong, &theirs.wrong);
        }
    }
}

impl Figures {
    #[allow(clippy::cast_precision_loss)]
    fn add(&mut self, took: Took, scans: &[Scan], texts: &[String]) {
        let pages = scans.len() as f64;
        self.cpu.push(pages / took.cpu.as_secs_f64());
        self.wall.push(pages / took.wall.as_secs_f64());
        assert_eq!(texts.len(), scans.len());
        let (mut wrong, mut all) = (0, 0);
        for (scan, text) in scans.iter().zip(texts) {
            let truth = plain(&scan.truth);
            wrong += distance(&truth, &plain(text));
            all += truth.len();
        }
        self.wrong.push(100.0 * wrong as f64 / all as f64);
    }
}

async fn extracted(document: &Path) -> (Took, Vec<String>) {
    let mut options = PdfOptions::new(find_pdfium().expect("there is a library"));
    (options.images, options.ocr) = (false, OcrMode::Auto);
    // The command loads its language in its time, and so does this.
    let (began, busy) = (Instant::now(), cpu_time());
    let extractor = PdfExtractor::new(options).expect("tesseract is installed");
    let (file, size) = open(document);
    let request = ExtractRequest::new(DocumentId::new(), file, size);
    let extraction = extractor.extract(request).await.expect("it opens");
    let pages = extraction.pages.map(|page| page.expect("it is read").text);
    let texts = pages.collect().await;
    let took = Took {
        wall: began.elapsed(),
        cpu: cpu_time() - busy,
    };
    (took, texts)
}

fn tesseract(input: &Path) -> (Took, String) {
    let mut command = Command::new("tesseract");
    command.arg(input).args(["stdout", "--dpi", "300"]);
    let (took, text) = timed(command.env("OMP_THREAD_LIMIT", "1"));
    (took, String::from_utf8(text).expect("it writes UTF-8"))
}

fn command_for_each(scans: &[Scan]) -> (Took, Vec<String>) {
    let (began, busy) = (Instant::now(), cpu_time());
    let texts = scans.iter().map(|scan| tesseract(&scan.image).1).collect();
    let took = Took {
        wall: began.elapsed(),
        cpu: cpu_time() - busy,
    };
    (took, texts)
}

fn command_for_all(scans: &[Scan], directory: &Path) -> (Took, Vec<String>) {
    let list = directory.join("list.txt");
    let lines: Vec<String> = scans
        .iter()
        .map(|scan| scan.image.display().to_string())
        .collect();
    fs::write(&list, lines.join("\n")).expect("there is room");
    let (took, text) = tesseract(&list);
    let mut texts: Vec<String> = text.split('\u{C}').map(str::to_owned).collect();
    texts.truncate(scans.len());
    (took, texts)
}

/// A document with a page for each image, as large as it was drawn from.
fn scanned(scans: &[Scan]) -> Vec<u8> {
    let kids: Vec<String> = (0..scans.len())
        .map(|n| format!("{} 0 R", 3 + 3 * n))
        .collect();
    let mut out = format!(
        "%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n\
         2 0 obj\n<< /Type /Pages /Count {} /Kids [{}] >>\nendobj\n",
        scans.len(),
        kids.join(" ")
    )
    .into_bytes();
    for (n, scan) in scans.iter().enumerate() {
        let image = fs::read(&scan.image).expect("it was drawn");
        let header = image.splitn(4, |byte| byte.is_ascii_whitespace());
        let header: Vec<&[u8]> = header.take(3).collect();
        let number = |word: &[u8]| -> u32 {
            let word = std::str::from_utf8(word).expect("it is ASCII");
            word.parse().expect("it is a number")
        };
        let (width, height) = (number(header[1]), number(header[2]));
        let pixels = &image[image.len() - (width * height) as usize..];
        let points = |pixels: u32| f64::from(pixels) * 72.0 / 300.0;
        let (x, y) = (points(width), points(height));
        let content = format!("{x} 0 0 {y} 0 0 cm /Im Do");
        let first = 3 + 3 * n;
        out.extend(
            format!(
                "{first} 0 obj\n<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {x} {y}] \
                 /Contents {} 0 R /Resources << /XObject << /Im {} 0 R >> >> >>\nendobj\n\
                 {} 0 obj\n<< /Length {} >>\nstream\n{content}\nendstream\nendobj\n\
                 {} 0 obj\n<< /Type /XObject /Subtype /Image /Width {width} /Height {height} \
                 /BitsPerComponent 8 /ColorSpace /DeviceGray /Length {} >>\nstream\n",
                first + 1,
                first + 2,
                first + 1,
                content.len(),
                first + 2,
                pixels.len()
            )
            .into_bytes(),
        );
        out.extend(pixels);
        out.extend(b"\nendstream\nendobj\n");
    }
    // pdfium finds the objects without a table.
    out.extend(
        format!(
            "trailer\n<< /Root 1 0 R /Size {} >>\n%%EOF\n",
            3 + 3 * scans.len()
        )
        .bytes(),
    );
    out
}

/// Words with one space between them, hyphens at line ends joined, ligatures and quotes by their
/// plain letters: in these the two sides differ by custom and not by mistake.
fn plain(text: &str) -> Vec<char> {
    let text = text
        .replace("\u{FFFE}", "-\n")
        .replace("\r\n", "\n")
        .replace(['\u{2018}', '\u{2019}'], "'")
        .replace(['\u{201C}', '\u{201D}'], "\"")
        .replace('\u{FB01}', "fi")
        .replace('\u{FB02}', "fl")
        .replace('\u{FB00}', "ff")
        .replace('\u{FB03}', "ffi")
        .replace(['\u{2013}', '\u{2014}'], "-")
        .replace(['\0', '\u{2}'], "");
    let text = text.replace("-\n", "");
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().collect()
}

/// How many characters have to be put in, taken out or changed.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[m + 1];
            row[m + 1] = changed.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
