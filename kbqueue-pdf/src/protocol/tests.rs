use std::error::Error;

use bytes::Bytes;
use kbqueue_core::extract::ExtractedImage;
use kbqueue_core::output::{PageSource, Provenance};

use super::*;

fn image() -> ExtractedImage {
    ExtractedImage {
        bytes: Bytes::from_static(b"PNG"),
        media_type: "image/png".to_owned(),
        width: 3,
        height: 4,
        bbox: [1.0, 2.5, -3.0, 4.0],
        caption: Some("Figure 1".to_owned()),
        thumbnail: Some(Bytes::from_static(b"png")),
    }
}

fn page() -> ExtractedPage {
    ExtractedPage {
        number: 7,
        label: Some("vii".to_owned()),
        section: None,
        provenance: Provenance {
            source: PageSource::Mixed,
            reason: "mixed_2".to_owned(),
            confidence: Some(87.5),
        },
        text: "Grüße\0\u{10ffff}".to_owned(),
        failure: Some("half of it".to_owned()),
        images: vec![
            image(),
            ExtractedImage {
                caption: None,
                thumbnail: None,
                ..image()
            },
        ],
    }
}

/// The message without its length, which has to be right.
fn body(message: &[u8]) -> &[u8] {
    let (length, body) = message.split_first_chunk().unwrap();
    assert_eq!(u32::from_le_bytes(*length) as usize, body.len());
    body
}

/// Changed in place, the page must no longer decode.
fn refusal(change: impl FnOnce(&mut ExtractedPage)) -> Malformed {
    let mut page = page();
    change(&mut page);
    decode(body(&encode_page(page))).unwrap_err()
}

#[test]
fn a_page_comes_out_as_it_went_in() {
    let message = encode_page(page());
    match decode(body(&message)).unwrap() {
        // `Debug` shows every field.
        Frame::Page(decoded) => assert_eq!(format!("{decoded:?}"), format!("{:?}", page())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_opening_comes_out_as_it_went_in() {
    let mut properties = Properties::default();
    properties
        .0
        .insert("title".to_owned(), "A title".to_owned());
    match decode(body(&encode_opened(12, &properties))).unwrap() {
        Frame::Opened {
            total_pages,
            properties: decoded,
        } => assert_eq!((total_pages, decoded), (12, properties)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_keep_their_kind_and_their_causes() {
    let inner = std::io::Error::other(std::fmt::Error);
    let error = ExtractError::Transient {
        message: "not now".to_owned(),
        source: Some(inner.into()),
    };
    match decode(body(&encode_refused(&error))).unwrap() {
        Frame::Refused(decoded @ ExtractError::Transient { .. }) => {
            assert_eq!(
                kbqueue_core::error::chain(&decoded),
                kbqueue_core::error::chain(&error)
            );
            assert!(decoded.source().is_some());
        }
        other => panic!("{other:?}"),
    }
    let error = ExtractError::permanent("never");
    assert!(matches!(
        decode(body(&encode_refused(&error))),
        Ok(Frame::Refused(ExtractError::Permanent { message, source: None })) if message == "never"
    ));
}

#[test]
fn a_frame_cut_anywhere_or_with_more_behind_it_is_refused() {
    let message = encode_page(page());
    let body = body(&message);
    for end in 0..body.len() {
        assert!(decode(&body[..end]).is_err(), "cut at {end}");
    }
    let longer = [body, b"x"].concat();
    assert_eq!(decode(&longer).unwrap_err(), Malformed::Trailing);
}

#[test]
fn what_no_honest_child_says_is_refused() {
    assert_eq!(
        refusal(|page| page.images[0].bbox[2] = f32::NAN),
        Malformed::Value
    );
    assert_eq!(
        refusal(|page| page.provenance.confidence = Some(f32::INFINITY)),
        Malformed::Value
    );
    assert_eq!(
        refusal(|page| page.provenance.confidence = Some(101.0)),
        Malformed::Value
    );
    assert_eq!(
        refusal(|page| page.provenance.reason = "<script>".to_owned()),
        Malformed::Value
    );
    // A browser would run it.
    assert_eq!(
        refusal(|page| page.images[1].media_type = "text/html".to_owned()),
        Malformed::Value
    );
    for total_pages in [0, MAX_PAGES + 1, u32::MAX] {
        let opened = encode_opened(total_pages, &Properties::default());
        assert_eq!(decode(body(&opened)).unwrap_err(), Malformed::Value);
    }
    // A document that is to wait would be out of the way for as long as its child likes.
    let mut snooze = encode_refused(&ExtractError::permanent("later"));
    snooze[LENGTH_BYTES + 1] = 2;
    assert_eq!(decode(body(&snooze)).unwrap_err(), Malformed::Value);
    assert_eq!(decode(&[9]).unwrap_err(), Malformed::Kind);
    assert_eq!(decode(&[]).unwrap_err(), Malformed::Short);
}

#[test]
fn a_claim_of_length_costs_nothing() {
    // A page whose text claims to be 8 MiB long, and one with ten thousand pictures.
    let mut text = vec![PAGE, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, b'x', 0];
    let pictures = text.clone();
    text.extend((8_u32 << 20).to_le_bytes());
    assert_eq!(decode(&text).unwrap_err(), Malformed::Short);
    text.truncate(text.len() - 4);
    text.extend(u32::MAX.to_le_bytes());
    assert_eq!(decode(&text).unwrap_err(), Malformed::Length);
    let mut pictures = pictures;
    pictures.extend([0, 0, 0, 0, 0]);
    pictures.extend(10_000_u32.to_le_bytes());
    assert_eq!(decode(&pictures).unwrap_err(), Malformed::Short);
}

#[test]
fn pictures_that_do_not_fit_are_left_out_and_the_text_stays() {
    let mut large = page();
    let bytes = Bytes::from(vec![0; 12 << 20]);
    large.images = vec![ExtractedImage { bytes, ..image() }; 4];
    let message = encode_page(large);
    assert!(message.len() <= LENGTH_BYTES + MAX_FRAME_BYTES);
    match decode(body(&message)).unwrap() {
        Frame::Page(page) => assert_eq!((page.images.len(), page.text.is_empty()), (2, false)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_are_cut_between_characters() {
    let mut long = page();
    long.label = Some("é".repeat(MAX_NAME_BYTES));
    match decode(body(&encode_page(long))).unwrap() {
        Frame::Page(page) => assert_eq!(page.label.unwrap().len(), MAX_NAME_BYTES),
        other => panic!("{other:?}"),
    }
}

/// To see what one is: `cargo fuzz fmt frames FILE`.
#[test]
fn the_inputs_that_fuzzing_kept_are_frames_or_refused() {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/frames");
    let mut frames = 0;
    for entry in std::fs::read_dir(kept).unwrap() {
        let message = std::fs::read(entry.unwrap().path()).unwrap();
        check(&message);
        frames += usize::from(decode(&message).is_ok());
    }
    assert!(frames >= 4, "one of each kind at least");
}

/// A poor man's fuzzing, the same each time: every byte of good frames takes a few other values.
#[test]
fn damaged_frames_are_frames_or_refused() {
    let mut properties = Properties::default();
    properties
        .0
        .insert("title".to_owned(), "A title".to_owned());
    let error = ExtractError::Transient {
        message: "later".to_owned(),
        source: Some(std::io::Error::other("full").into()),
    };
    for message in [
        encode_page(page()),
        encode_opened(3, &properties),
        encode_refused(&error),
        encode_needs_ocr(7),
    ] {
        let good = body(&message);
        for at in 0..good.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xc3, 0xff] {
                let mut damaged = good.to_vec();
                damaged[at] = value;
                check(&damaged);
            }
        }
    }
}
