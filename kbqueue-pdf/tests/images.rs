//! Pictures: which, where, and how they are stored.
#![allow(clippy::unwrap_used)]

mod common;

use common::{A4, Pdf, line, pages_from};
use kbqueue_core::extract::ExtractedImage;

/// An image object of so many gray pixels, all different enough.
fn gray(width: usize, height: usize, entries: &str) -> String {
    let pixels: String = (0..width * height)
        .map(|n| format!("{:02X}", (n * 7) % 251))
        .collect();
    image(
        width,
        height,
        "/DeviceGray",
        "/ASCIIHexDecode",
        entries,
        &pixels,
    )
}

fn image(
    width: usize,
    height: usize,
    colours: &str,
    filter: &str,
    entries: &str,
    hex: &str,
) -> String {
    format!(
        "<< /Type /XObject /Subtype /Image /Width {width} /Height {height} /BitsPerComponent 8 \
         /ColorSpace {colours} /Filter {filter} {entries} /Length {} >>\nstream\n{hex}>\nendstream",
        hex.len() + 1
    )
}

fn with_objects(pdf: &mut Pdf, entries: &str, xobjects: &str, content: &str) {
    let resources =
        format!("{entries} /Resources << /XObject << {xobjects} >> /Font << /F1 3 0 R >> >>");
    pdf.page(&resources, content);
}

async fn images(pdf: &Pdf) -> Vec<ExtractedImage> {
    pages_from(&pdf.bytes(), 1).await.remove(0).images
}

/// Width and height as the PNG says.
fn png_size(bytes: &[u8]) -> (u32, u32) {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .unwrap();
    (reader.info().width, reader.info().height)
}

#[tokio::test]
async fn a_picture_is_told_with_its_place_and_its_caption() {
    let mut pdf = Pdf::new();
    pdf.add(50, &gray(400, 200, ""));
    let content = "q 200 0 0 100 72 600 cm /Im Do Q\n".to_owned()
        + &line(80, 585, "Figure 1: a pattern")
        + &line(80, 500, "Text of the page");
    with_objects(&mut pdf, A4, "/Im 50 0 R", &content);
    let [image] = &images(&pdf).await[..] else {
        panic!("one image");
    };
    assert_eq!(image.media_type, "image/png");
    assert_eq!((image.width, image.height), (400, 200));
    assert_eq!(png_size(&image.bytes), (400, 200));
    assert_eq!(png_size(image.thumbnail.as_ref().unwrap()), (320, 160));
    assert_eq!(image.bbox.map(f32::round), [72.0, 142.0, 272.0, 242.0]);
    assert_eq!(image.caption.as_deref(), Some("Figure 1: a pattern"));
}

#[tokio::test]
async fn places_count_from_the_visible_corner_of_the_page_as_it_is_turned() {
    for (entries, expected) in [
        (
            "/MediaBox [0 0 600 800] /CropBox [50 100 550 700]",
            [50.0, 0.0, 150.0, 100.0],
        ),
        (
            "/MediaBox [0 0 600 800] /Rotate 90",
            [600.0, 100.0, 700.0, 200.0],
        ),
        (
            "/MediaBox [0 0 600 800] /Rotate 180",
            [400.0, 600.0, 500.0, 700.0],
        ),
        (
            "/MediaBox [0 0 600 800] /Rotate 270",
            [100.0, 400.0, 200.0, 500.0],
        ),
    ] {
        let mut pdf = Pdf::new();
        pdf.add(50, &gray(100, 100, ""));
        with_objects(
            &mut pdf,
            entries,
            "/Im 50 0 R",
            "100 0 0 100 100 600 cm /Im Do",
        );
        let images = images(&pdf).await;
        assert_eq!(images[0].bbox.map(f32::round), expected, "{entries}");
    }
}

#[tokio::test]
async fn pictures_within_forms_are_found_where_they_are_shown() {
    let mut pdf = Pdf::new();
    pdf.add(50, &gray(100, 100, ""));
    for (form, inner, content) in [
        (60, "/X 61 0 R", "1 0 0 1 10 0 cm /X Do"),
        (61, "/X 50 0 R", "50 0 0 50 0 0 cm /X Do"),
    ] {
        pdf.add(
            form,
            &format!(
                "<< /Type /XObject /Subtype /Form /BBox [0 0 500 500] \
                 /Resources << /XObject << {inner} >> >> /Length {} >>\nstream\n{content}\nendstream",
                content.len()
            ),
        );
    }
    with_objects(
        &mut pdf,
        "/MediaBox [0 0 600 800]",
        "/X 60 0 R",
        "2 0 0 2 100 500 cm /X Do",
    );
    let images = images(&pdf).await;
    assert_eq!(images[0].bbox.map(f32::round), [120.0, 200.0, 220.0, 300.0]);
}

#[tokio::test]
async fn a_jpeg_is_passed_on_untouched_unless_it_is_masked() {
    let mut jpeg = Vec::new();
    let pixels: Vec<u8> = (0..64 * 64 * 3).map(|n| (n % 251) as u8).collect();
    jpeg_encoder::Encoder::new(&mut jpeg, 90)
        .encode(&pixels, 64, 64, jpeg_encoder::ColorType::Rgb)
        .unwrap();
    let hex: String = jpeg.iter().map(|byte| format!("{byte:02X}")).collect();
    let filter = "[/ASCIIHexDecode /DCTDecode]";
    let plain = image(64, 64, "/DeviceRGB", filter, "", &hex);
    let masked = image(64, 64, "/DeviceRGB", filter, "/SMask 52 0 R", &hex);
    let mut pdf = Pdf::new();
    pdf.add(50, &plain)
        .add(51, &masked)
        .add(52, &gray(64, 64, ""));
    with_objects(
        &mut pdf,
        A4,
        "/A 50 0 R /B 51 0 R",
        "q 100 0 0 100 50 600 cm /A Do Q q 100 0 0 100 50 400 cm /B Do Q",
    );
    let images = images(&pdf).await;
    assert_eq!(images[0].media_type, "image/jpeg");
    assert_eq!(images[0].bytes, jpeg);
    assert_eq!(images[1].media_type, "image/png");
    let masked = png::Decoder::new(std::io::Cursor::new(&images[1].bytes))
        .read_info()
        .unwrap();
    assert_eq!(masked.info().color_type, png::ColorType::Rgba);
}

#[tokio::test]
async fn strips_make_one_picture_and_specks_none() {
    let mut pdf = Pdf::new();
    pdf.add(50, &gray(200, 20, ""));
    pdf.add(51, &gray(1000, 40, ""));
    let mut content = String::new();
    for strip in 0..10 {
        content += &format!("q 200 0 0 20 72 {} cm /Im Do Q\n", 700 - strip * 20);
    }
    // A rule, and one strip alone that is too low to be a picture.
    content += "q 400 0 0 2 72 300 cm /Rule Do Q q 200 0 0 20 72 200 cm /Im Do Q\n";
    with_objects(&mut pdf, A4, "/Im 50 0 R /Rule 51 0 R", &content);
    let images = images(&pdf).await;
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].bbox.map(f32::round), [72.0, 122.0, 272.0, 322.0]);
    assert_eq!((images[0].width, images[0].height), (200, 200));
}

#[tokio::test]
async fn thousands_of_pictures_on_a_page_end() {
    let mut pdf = Pdf::new();
    pdf.add(50, &gray(40, 40, ""));
    let content: String = (0..8000)
        .map(|n| format!("q 30 0 0 30 {} {} cm /Im Do Q\n", n % 89 * 6, n / 89 * 9))
        .collect();
    with_objects(&mut pdf, A4, "/Im 50 0 R", &content);
    assert_eq!(images(&pdf).await.len(), 200);
}

#[tokio::test]
async fn a_tagged_picture_is_named_by_its_alternative_text() {
    let mut pdf = Pdf::new();
    pdf.catalog = "/MarkInfo << /Marked true >> /StructTreeRoot 70 0 R".to_owned();
    pdf.add(50, &gray(100, 100, ""));
    pdf.add(
        70,
        "<< /Type /StructTreeRoot /K 71 0 R /ParentTree << /Nums [0 [71 0 R]] >> >>",
    );
    pdf.add(
        71,
        "<< /Type /StructElem /S /Figure /P 70 0 R /Pg 10 0 R /K 0 /Alt (A dog on the beach) >>",
    );
    with_objects(
        &mut pdf,
        &format!("{A4} /StructParents 0"),
        "/Im 50 0 R",
        "/Figure << /MCID 0 >> BDC q 100 0 0 100 72 600 cm /Im Do Q EMC",
    );
    let images = images(&pdf).await;
    assert_eq!(images[0].caption.as_deref(), Some("A dog on the beach"));
}
