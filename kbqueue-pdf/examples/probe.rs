use futures::StreamExt;
use kbqueue_core::extract::ExtractRequest;
use kbqueue_core::{DocumentId, Extractor};
use std::time::Instant;
fn rss() -> String {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("VmHWM")).map(|l| l.split_whitespace().nth(1).unwrap().to_owned()).collect::<Vec<_>>().join("/")
}
#[tokio::main]
async fn main() {
    let ex = kbqueue_pdf::PdfExtractor::new(kbqueue_pdf::PdfOptions::new(kbqueue_pdf::find_pdfium().unwrap())).unwrap();
    let dump = std::env::var_os("DUMP").map(std::path::PathBuf::from);
    let (mut all_pages, start) = (0, Instant::now());
    for f in std::env::args().skip(1) {
        let t = Instant::now();
        let file = std::fs::File::open(&f).unwrap();
        let n = file.metadata().unwrap().len();
        match ex.extract(ExtractRequest::new(DocumentId::new(), file, n)).await {
            Err(e) => println!("{f}\tERR {e} [{:?}]", std::error::Error::source(&e).map(|s| s.to_string())),
            Ok(mut d) => {
                let (mut pages, mut chars, mut fails, mut labels, mut sections) = (0, 0, vec![], 0, 0);
                let mut out = String::new();
                while let Some(p) = d.pages.next().await {
                    match p {
                        Ok(p) => {
                            pages += 1;
                            assert_eq!(p.number, pages);
                            chars += p.text.chars().count();
                            if let Some(x) = p.failure { fails.push(x) }
                            labels += p.label.is_some() as u32;
                            sections += p.section.is_some() as u32;
                            if dump.is_some() { out += &format!("\n=== {} label={:?} section={:?} {}\n{}\n", p.number, p.label, p.section, p.provenance.reason, p.text); }
                        }
                        Err(e) => { println!("{f} PAGE ERR {e}"); }
                    }
                }
                if let Some(d) = &dump { std::fs::write(d.join(f.replace('/', "_") + ".txt"), &out).unwrap(); }
                all_pages += pages;
                println!("{f}\tok {pages}/{} chars={chars} labels={labels} sections={sections} fails={} {:?} {}ms rss={} {:?}", d.total_pages, fails.len(), fails.first(), t.elapsed().as_millis(), rss(), d.properties.0);
            }
        }
    }
    eprintln!("{all_pages} pages in {:?}", start.elapsed());
}
