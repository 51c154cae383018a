//! Makes a damaged file readable: its objects are looked for one by one, and what leads to them (page
//! tree, catalog, table, trailer) is written anew behind the file.
//!
//! Nothing of the file is changed or copied, apart from what lies in object streams and from the
//! pages' own dictionaries, so a repair takes little memory however large the file is.

mod orphans;
mod pages;
mod scan;
mod streams;
mod syntax;

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use self::orphans::Orphan;
use self::pages::PageTree;
use self::scan::Found;
use self::syntax::Entries;
use super::source::Source;

/// Most dictionaries fit in the first, all that matter in the second.
const USUAL_OBJECT_BYTES: usize = 4 * 1024;
const MAX_OBJECT_BYTES: usize = 1 << 20;
/// Everything that is written behind the file.
const MAX_TAIL_BYTES: usize = 48 << 20;
/// What object streams may hold in all.
const MAX_INFLATED_BYTES: usize = 256 << 20;

/// The document of `source` with a page tree, a table and a trailer that lead to every page that is
/// left of it. `None` when there is not one.
pub(crate) fn repair(source: Source) -> io::Result<Option<Source>> {
    let mut repair = Repair::default();
    // A stream that was cut off must not go on in what is written behind it.
    repair.tail.extend_from_slice(b"\nendstream\nendobj\n");
    let found = scan::scan(&source)?;
    let ends = found.iter().skip(1).map(Found::offset);
    for (found, end) in found.iter().zip(ends.chain([source.len()])) {
        repair.take(&source, *found, end)?;
    }
    if repair.pages.is_empty() {
        repair.adopt_orphans(&source)?;
    }
    let base = source.len();
    Ok(repair.write(base).map(|tail| source.followed_by(tail)))
}

/// What is known so far. Of two objects with the same number the later one counts.
#[derive(Default)]
struct Repair {
    objects: BTreeMap<u32, Place>,
    pages: PageTree,
    catalog: Option<Vec<u8>>,
    info: Option<u32>,
    /// The information dictionary by the looks of it, where no trailer names one.
    likely_info: Option<u32>,
    /// Entries of a trailer without which an encrypted document cannot be read.
    encryption: Option<Vec<u8>>,
    inflated_bytes: usize,
    /// Streams that may be the content of a page.
    orphans: Vec<Orphan>,
    tail: Vec<u8>,
}

/// Where an object is.
#[derive(Clone, Copy)]
enum Place {
    File { offset: u64, generation: u16 },
    Tail { offset: usize },
}

impl Repair {
    /// Takes what was found and reaches to `end` at most.
    fn take(&mut self, source: &Source, found: Found, end: u64) -> io::Result<()> {
        let body = found.body();
        let length = usize::try_from(end.saturating_sub(body)).unwrap_or(MAX_OBJECT_BYTES);
        let mut bytes = source.bytes(body, length.min(USUAL_OBJECT_BYTES))?;
        let opens = bytes[syntax::skip_space(&bytes, 0)..].starts_with(b"<<");
        if opens && syntax::dictionary(&bytes).is_none() && length > bytes.len() {
            bytes = source.bytes(body, length.min(MAX_OBJECT_BYTES))?;
        }
        let parsed = syntax::dictionary(&bytes);
        let (number, generation, offset) = match found {
            Found::Trailer { .. } => {
                if let Some((entries, _)) = &parsed {
                    self.take_trailer(entries);
                }
                return Ok(());
            }
            Found::Object {
                number,
                generation,
                offset,
                ..
            } => (number, generation, offset),
        };
        if parsed.is_none() && opens {
            // Cut off or damaged: an older version of it is better.
            self.objects
                .entry(number)
                .or_insert(Place::File { offset, generation });
            return Ok(());
        }
        self.objects
            .insert(number, Place::File { offset, generation });
        let Some((entries, end)) = parsed else {
            self.pages.forget(number);
            return Ok(());
        };
        match syntax::get(&entries, "Type") {
            Some(b"/XRef") => self.take_trailer(&entries),
            Some(b"/ObjStm") if self.encryption.is_none() => {
                if self.inflated_bytes < MAX_INFLATED_BYTES {
                    let stream = streams::ObjectStream::read(source, &entries, body + end as u64)?;
                    self.inflated_bytes += stream.len();
                    for (number, object) in stream.objects() {
                        self.take_packed(number, object);
                    }
                }
            }
            Some(_) => self.take_dictionary(number, &entries, &bytes[..end]),
            None => {
                self.take_dictionary(number, &entries, &bytes[..end]);
                if self.orphans.len() < orphans::MAX {
                    let data = body + end as u64;
                    self.orphans
                        .extend(Orphan::new(number, &entries, body, data));
                }
            }
        }
        Ok(())
    }

    /// Where no page is left, makes one of each stream that shows text: pdfium reads it with a stock
    /// font, which is right for the letters of most Latin fonts.
    fn adopt_orphans(&mut self, source: &Source) -> io::Result<()> {
        let mut number = self.objects.keys().next_back().map_or(1, |last| last + 1);
        for orphan in std::mem::take(&mut self.orphans) {
            if self.inflated_bytes > MAX_INFLATED_BYTES {
                break;
            }
            let content = orphan.content(source)?;
            self.inflated_bytes += content.len();
            if orphans::shows_latin_text(&content) {
                self.pages.add_page(number, orphan.page().as_bytes());
                // Its place comes when it is written.
                self.objects.insert(number, Place::Tail { offset: 0 });
                number += 1;
            }
        }
        Ok(())
    }

    /// Takes an object out of an object stream.
    fn take_packed(&mut self, number: u32, object: &[u8]) {
        if self.tail.len() > MAX_TAIL_BYTES {
            return;
        }
        let offset = self.begin_object(number);
        self.tail.extend_from_slice(object);
        self.tail.extend_from_slice(b"\nendobj\n");
        self.objects.insert(number, Place::Tail { offset });
        match syntax::dictionary(object) {
            Some((entries, end)) => self.take_dictionary(number, &entries, &object[..end]),
            None => self.pages.forget(number),
        }
    }

    fn take_dictionary(&mut self, number: u32, entries: &Entries<'_>, text: &[u8]) {
        self.pages.forget(number);
        match syntax::get(entries, "Type") {
            Some(b"/Page") => self.pages.add_page(number, text),
            Some(b"/Pages") => self.pages.add_node(number, entries),
            Some(b"/Catalog") => self.catalog = Some(text.to_owned()),
            None => {
                let has = |name| syntax::get(entries, name).is_some();
                if has("Producer") && (has("CreationDate") || has("Creator") || has("ModDate")) {
                    self.likely_info = Some(number);
                }
            }
            Some(_) => {}
        }
    }

    fn take_trailer(&mut self, entries: &Entries<'_>) {
        if let Some(info) = syntax::get(entries, "Info").and_then(syntax::reference) {
            self.info = Some(info);
        }
        if let (Some(encrypt), Some(id)) =
            (syntax::get(entries, "Encrypt"), syntax::get(entries, "ID"))
        {
            self.encryption = Some([b"/Encrypt ", encrypt, b" /ID ", id].concat());
        }
    }

    /// Begins an object of the tail and tells where it does.
    fn begin_object(&mut self, number: u32) -> usize {
        let offset = self.tail.len();
        self.put(format_args!("{number} 0 obj\n"));
        offset
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.tail
            .write_fmt(text)
            .expect("memory takes what is written");
    }

    /// Writes what leads to the pages, behind `base` bytes. `None` when there is no page.
    fn write(mut self, base: u64) -> Option<Vec<u8>> {
        let catalog = self.catalog.take();
        let old = catalog
            .as_deref()
            .and_then(syntax::dictionary)
            .map(|(entries, _)| entries)
            .unwrap_or_default();
        let old_root = syntax::get(&old, "Pages").and_then(syntax::reference);
        let order = self.pages.in_order(old_root);
        if order.is_empty() {
            return None;
        }
        let highest = self.objects.keys().next_back().copied().unwrap_or(0);
        let (root, catalog) = (highest + 1, highest + 2);
        let mut kids = Vec::new();
        for number in order {
            if self.tail.len() > MAX_TAIL_BYTES {
                break;
            }
            let page = self.pages.page(number, root);
            self.add(number, &page);
            kids.push(format!("{number} 0 R"));
        }
        let (count, kids) = (kids.len(), kids.join(" "));
        self.add(
            root,
            format!("<< /Type /Pages /Count {count} /Kids [{kids}] >>").as_bytes(),
        );
        let mut text = format!("<< /Type /Catalog /Pages {root} 0 R").into_bytes();
        // Under its new number, the strings of an encrypted catalog could not be read.
        let kept = if self.encryption.is_none() {
            old
        } else {
            Vec::new()
        };
        for (name, value) in kept {
            if name != b"Type" && name != b"Pages" {
                text.extend([b" /", name, b" ", value].concat());
            }
        }
        text.extend(b" >>");
        self.add(catalog, &text);
        self.write_table(base, catalog);
        Some(self.tail)
    }

    fn add(&mut self, number: u32, object: &[u8]) {
        let offset = self.begin_object(number);
        self.tail.extend_from_slice(object);
        self.tail.extend_from_slice(b"\nendobj\n");
        self.objects.insert(number, Place::Tail { offset });
    }

    fn write_table(&mut self, base: u64, catalog: u32) {
        let start = base + self.tail.len() as u64;
        self.put(format_args!("xref\n0 1\n0000000000 65535 f \n"));
        let objects = std::mem::take(&mut self.objects);
        let mut rest = objects.iter().peekable();
        while let Some((first, place)) = rest.next() {
            let mut run = vec![place];
            while let Some((_, place)) =
                rest.next_if(|(number, _)| (**number - first) as usize == run.len())
            {
                run.push(place);
            }
            self.put(format_args!("{first} {}\n", run.len()));
            for place in run {
                let (offset, generation) = match *place {
                    Place::File { offset, generation } => (offset, generation),
                    Place::Tail { offset } => (base + offset as u64, 0),
                };
                self.put(format_args!("{offset:010} {generation:05} n \n"));
            }
        }
        let size = catalog + 1;
        self.put(format_args!("trailer\n<< /Size {size} /Root {catalog} 0 R"));
        if let Some(info) = self
            .info
            .filter(|info| objects.contains_key(info))
            .or(self.likely_info)
        {
            self.put(format_args!(" /Info {info} 0 R"));
        }
        if let Some(encryption) = self.encryption.take() {
            self.put(format_args!(" "));
            self.tail.extend(encryption);
        }
        self.put(format_args!(" >>\nstartxref\n{start}\n%%EOF\n"));
    }
}
