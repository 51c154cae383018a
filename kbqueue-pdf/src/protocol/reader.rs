//! The host's half: bytes into frames, or a reason why they are none.

use bytes::Bytes;
use kbqueue_core::extract::{ExtractedImage, ExtractedPage};
use kbqueue_core::output::{PageSource, Provenance};
use kbqueue_core::{ExtractError, Properties};

use super::{
    Frame, IMAGE_TYPES, MAX_CAUSES, MAX_FRAME_BYTES, MAX_IMAGES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES,
    MAX_PAGES, MAX_PROPERTIES, MAX_TEXT_BYTES, Malformed, NEEDS_OCR, OPENED, PAGE, REFUSED,
};

/// Makes a frame of a message without its length.
pub(crate) fn decode(message: &[u8]) -> Result<Frame, Malformed> {
    if message.len() > MAX_FRAME_BYTES {
        return Err(Malformed::Length);
    }
    let mut input = Input(message);
    let frame = match input.u8()? {
        OPENED => opened(&mut input)?,
        REFUSED => Frame::Refused(refused(&mut input)?),
        PAGE => Frame::Page(page(&mut input)?),
        NEEDS_OCR => Frame::NeedsOcr(input.u32()?),
        _ => return Err(Malformed::Kind),
    };
    if input.0.is_empty() {
        Ok(frame)
    } else {
        Err(Malformed::Trailing)
    }
}

fn opened(input: &mut Input<'_>) -> Result<Frame, Malformed> {
    let total_pages = input.u32()?;
    if !(1..=MAX_PAGES).contains(&total_pages) {
        return Err(Malformed::Value);
    }
    let mut properties = Properties::default();
    for _ in 0..input.count(MAX_PROPERTIES)? {
        let name = input.code()?;
        properties.0.insert(name, input.text(MAX_NAME_BYTES)?);
    }
    Ok(Frame::Opened {
        total_pages,
        properties,
    })
}

fn refused(input: &mut Input<'_>) -> Result<ExtractError, Malformed> {
    let kind = input.u8()?;
    let message = input.text(MAX_MESSAGE_BYTES)?;
    let mut causes = Vec::new();
    for _ in 0..input.count(MAX_CAUSES)? {
        causes.push(input.text(MAX_MESSAGE_BYTES)?);
    }
    let source = causes.into_iter().rev().fold(None, |source, message| {
        Some(Box::new(Cause { message, source }))
    });
    let source = source.map(|cause| cause as Box<dyn std::error::Error + Send + Sync>);
    Ok(match kind {
        0 => ExtractError::Permanent { message, source },
        1 => ExtractError::Transient { message, source },
        _ => return Err(Malformed::Value),
    })
}

/// What an error of the child had underneath.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Cause {
    message: String,
    source: Option<Box<Cause>>,
}

fn page(input: &mut Input<'_>) -> Result<ExtractedPage, Malformed> {
    Ok(ExtractedPage {
        number: input.u32()?,
        label: input.option(|input| input.text(MAX_NAME_BYTES))?,
        section: input.option(|input| input.text(MAX_NAME_BYTES))?,
        provenance: Provenance {
            source: match input.u8()? {
                0 => PageSource::None,
                1 => PageSource::Text,
                2 => PageSource::Ocr,
                3 => PageSource::Mixed,
                _ => return Err(Malformed::Value),
            },
            reason: input.code()?,
            confidence: input.option(|input| {
                let confidence = input.f32()?;
                if !(0.0..=100.0).contains(&confidence) {
                    return Err(Malformed::Value);
                }
                Ok(confidence)
            })?,
        },
        text: input.text(MAX_TEXT_BYTES)?,
        failure: input.option(|input| input.text(MAX_MESSAGE_BYTES))?,
        images: images(input)?,
    })
}

fn images(input: &mut Input<'_>) -> Result<Vec<ExtractedImage>, Malformed> {
    // Not with a capacity: the count is only a claim.
    let mut images = Vec::new();
    for _ in 0..input.count(MAX_IMAGES)? {
        images.push(ExtractedImage {
            bytes: Bytes::copy_from_slice(input.bytes(MAX_FRAME_BYTES)?),
            media_type: input.image_type()?,
            width: input.u32()?,
            height: input.u32()?,
            bbox: [input.f32()?, input.f32()?, input.f32()?, input.f32()?],
            caption: input.option(|input| input.text(MAX_NAME_BYTES))?,
            thumbnail: input.option(|input| {
                let bytes = input.bytes(MAX_FRAME_BYTES)?;
                Ok(Bytes::copy_from_slice(bytes))
            })?,
        });
    }
    Ok(images)
}

/// What is left of a message.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn f32(&mut self) -> Result<f32, Malformed> {
        let value = f32::from_le_bytes(self.array()?);
        if value.is_finite() {
            Ok(value)
        } else {
            Err(Malformed::Value)
        }
    }

    fn count(&mut self, max: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed::Length)?;
        if count > max {
            return Err(Malformed::Length);
        }
        Ok(count)
    }

    fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = self.count(max)?;
        self.take(len)
    }

    fn text(&mut self, max_bytes: usize) -> Result<String, Malformed> {
        let bytes = self.bytes(max_bytes)?;
        let text = str::from_utf8(bytes).map_err(|_| Malformed::Utf8)?;
        Ok(text.to_owned())
    }

    /// A word that is part of kbqueue's language, such as `text_layer`.
    fn code(&mut self) -> Result<String, Malformed> {
        let code = self.text(MAX_NAME_BYTES)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if code.is_empty() || code.len() > 64 || !code.bytes().all(plain) {
            return Err(Malformed::Value);
        }
        Ok(code)
    }

    fn image_type(&mut self) -> Result<String, Malformed> {
        let claimed = self.text(MAX_NAME_BYTES)?;
        if !IMAGE_TYPES.contains(&claimed.as_str()) {
            return Err(Malformed::Value);
        }
        Ok(claimed)
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Malformed::Value),
        }
    }
}
