//! PDFs made to measure.

use std::fmt::Write as _;
use std::io::{self, Write};

/// The text that stands on a page of [`text_pdf`].
#[must_use]
pub fn page_text(page: u32) -> String {
    let mut text = String::new();
    for line in 1..=40 {
        writeln!(
            text,
            "Page {page}, line {line}: the quick brown fox jumps over the lazy dog."
        )
        .unwrap();
    }
    text
}

/// A PDF of `pages` pages with 40 lines of text each.
#[must_use]
pub fn text_pdf(pages: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write_pdf(&mut out, pages, 0).unwrap();
    out
}

/// Writes a PDF of `pages` pages, each of which also shows an image of `image_bytes` that does not
/// compress.
///
/// # Errors
/// Those of `out`.
pub fn write_pdf(out: &mut impl Write, pages: u32, image_bytes: usize) -> io::Result<()> {
    let mut pdf = Objects {
        out,
        written: 0,
        offsets: Vec::new(),
    };
    pdf.raw(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")?;
    // Objects: 1 catalog, 2 page tree, 3 font, then page, content and image of each page.
    pdf.object(b"<< /Type /Catalog /Pages 2 0 R >>")?;
    let kids: String = (0..pages)
        .map(|page| format!("{} 0 R ", 4 + page * 3))
        .collect();
    pdf.object(format!("<< /Type /Pages /Count {pages} /Kids [{kids}] >>").as_bytes())?;
    pdf.object(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")?;
    let mut noise = 1u32;
    for page in 1..=pages {
        let first = 4 + (page - 1) * 3;
        let (content, image) = (first + 1, first + 2);
        pdf.object(
            format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R \
                 /Resources << /Font << /F1 3 0 R >> /XObject << /Im1 {image} 0 R >> >> >>"
            )
            .as_bytes(),
        )?;
        let mut drawing = "BT /F1 11 Tf 50 750 Td 14 TL\n".to_owned();
        for line in page_text(page).lines() {
            writeln!(drawing, "({line}) '").unwrap();
        }
        drawing.push_str("ET\n");
        if image_bytes > 0 {
            drawing.push_str("q 100 0 0 100 50 50 cm /Im1 Do Q\n");
        }
        pdf.stream("", drawing.as_bytes())?;
        let rows = image_bytes / 1000;
        let bytes: Vec<u8> = (0..rows * 1000)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noise.to_be_bytes()[0]
            })
            .collect();
        let (width, height) = if rows > 0 { (1000, rows) } else { (0, 0) };
        let image = format!(
            "/Type /XObject /Subtype /Image /Width {width} /Height {height} \
             /ColorSpace /DeviceGray /BitsPerComponent 8"
        );
        pdf.stream(&image, &bytes)?;
    }
    pdf.finish()
}

/// What opens [`locked_pdf`].
pub const LOCKED_PASSWORD: &str = "open sesame";
/// What stands on its only page.
pub const LOCKED_TEXT: &str = "Behind the lock";

/// A PDF that is encrypted (40-bit RC4) under [`LOCKED_PASSWORD`].
#[must_use]
pub fn locked_pdf() -> Vec<u8> {
    // Computed once with that password, "owner" as the owner's, and the content as object 5.
    const OWNER: &str = "8eeb095811aa015a6b5a146ef5738f0163a1708027c4864f3411c83c0e76a901";
    const USER: &str = "66d251e0099be354ea505fdd0236494c137bab0051db36ee613d7dc2fdcd850c";
    const CONTENT: &str = "5efaf6abf378dcb7947986ebb98cffa96be0c724defc74\
                           54b93a0dfdbac0596fda6f840af59040676c7883b80e39";
    let content: Vec<u8> = (0..CONTENT.len() / 2)
        .map(|at| u8::from_str_radix(&CONTENT[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let mut out = Vec::new();
    let mut pdf = Objects {
        out: &mut out,
        written: 0,
        offsets: Vec::new(),
    };
    pdf.raw(b"%PDF-1.7\n").unwrap();
    for object in [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Count 1 /Kids [4 0 R] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R \
         /Resources << /Font << /F1 3 0 R >> >> >>",
    ] {
        pdf.object(object.as_bytes()).unwrap();
    }
    pdf.stream("", &content).unwrap();
    let encrypt = format!(
        "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{OWNER}> /U <{USER}> >> /ID [<00> <00>]"
    );
    pdf.finish_with(&encrypt).unwrap();
    out
}

struct Objects<'a, W> {
    out: &'a mut W,
    written: usize,
    offsets: Vec<usize>,
}

impl<W: Write> Objects<'_, W> {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn object(&mut self, body: &[u8]) -> io::Result<()> {
        self.offsets.push(self.written);
        self.raw(format!("{} 0 obj\n", self.offsets.len()).as_bytes())?;
        self.raw(body)?;
        self.raw(b"\nendobj\n")
    }

    fn stream(&mut self, dictionary: &str, bytes: &[u8]) -> io::Result<()> {
        let mut body = format!("<< {dictionary} /Length {} >>\nstream\n", bytes.len()).into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\nendstream");
        self.object(&body)
    }

    fn finish(self) -> io::Result<()> {
        self.finish_with("")
    }

    /// With these entries in the trailer.
    fn finish_with(mut self, entries: &str) -> io::Result<()> {
        let start = self.written;
        let size = self.offsets.len() + 1;
        let mut table = format!("xref\n0 {size}\n0000000000 65535 f \n");
        for offset in &self.offsets {
            writeln!(table, "{offset:010} 00000 n ").unwrap();
        }
        write!(
            table,
            "trailer << /Size {size} /Root 1 0 R {entries} >>\nstartxref\n{start}\n%%EOF\n"
        )
        .unwrap();
        self.raw(table.as_bytes())
    }
}
