//! Reads PDFs for programs that cannot begin with `kbqueue_pdf::init()`, such as test binaries: they
//! name this one in `PdfOptions::child`.

fn main() {
    kbqueue_pdf::init();
    eprintln!("kbqueue-pdf-child is started by programs that read PDFs, not by hand");
    std::process::exit(2);
}
