//! One image file to pixels, within limits and without trust in the decoder.
//!
//! PNG, BMP, GIF, TIFF and lossless WebP give Pillow's bytes. JPEG differs from libjpeg-turbo, which Pillow uses, by
//! up to 4 of 255 levels (0.4 on average) with subsampled colour; arrays of bytes are the exact way in.

use std::io::{self, BufRead, BufReader, Cursor, Read as _, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::dataset::DataLimits;
use super::geometry::Size;
use super::pixels::Pixels;
use super::problem::{Problem, Read, readable_bytes};

/// Bytes in which an image's size is looked for before the whole file is: a JPEG decoder reads all it is given.
const HEADER_BYTES: u64 = 64 << 10;
/// What messages call the decoder.
const DECODER: &str = "the image decoder";

/// Encoded bytes of one image, wherever they are.
pub(super) trait Stream: io::Read + Seek {}

impl<T: io::Read + Seek> Stream for T {}

/// What becomes of the orientation that a camera noted in EXIF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turning {
    /// Nothing, as in Pillow, torchvision and timm.
    Ignored,
    /// The image is turned upright, as Hugging Face's `datasets` does.
    #[cfg_attr(
        not(any(test, feature = "parquet")),
        expect(dead_code, reason = "of tables in Parquet files")
    )]
    Upright,
}

/// Decodes one image within the limits.
#[derive(Clone, Copy)]
pub(super) struct Decoder {
    pub(super) limits: DataLimits,
    pub(super) turning: Turning,
}

impl Decoder {
    /// An image's bytes, to be decoded later; it may take no more of them than it may decoded.
    pub(super) fn read(self, stream: &mut dyn Stream) -> Read<Vec<u8>> {
        let limit = self.memory();
        let length = stream.seek(SeekFrom::End(0))?;
        stream.rewind()?;
        if length > limit {
            return Err(format!(
                "is a file of {}, the limit is {}",
                readable_bytes(length),
                readable_bytes(limit)
            )
            .into());
        }
        let length = usize::try_from(length).map_err(|_| "is too large a file for this machine")?;
        let mut bytes = vec![0; length];
        // No more than was there when its length was asked for: looking for an end would be two reads.
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Height and width from the image's header.
    pub(super) fn size(self, stream: &mut dyn Stream) -> Read<Size> {
        let mut header = vec![];
        stream.take(HEADER_BYTES).read_to_end(&mut header)?;
        let is_all = (header.len() as u64) < HEADER_BYTES;
        match self.size_of(Cursor::new(&header)) {
            found @ Ok(_) if is_all || self.turning == Turning::Ignored => found,
            found @ Err(_) if is_all => found,
            // The orientation may stand at the end.
            _ => {
                stream.rewind()?;
                self.size_of(BufReader::new(stream))
            }
        }
    }

    fn size_of(self, file: impl BufRead + Seek) -> Read<Size> {
        contained(DECODER, || {
            let mut decoder = self.reader(file)?.into_decoder().map_err(image_problem)?;
            let size = self.check_size(decoder.dimensions())?;
            Ok(turned(size, self.orientation(&mut decoder)?))
        })
    }

    /// Grey for files without colour, else red, green, blue.
    pub(super) fn decode(self, file: &[u8]) -> Read<Pixels> {
        let (size, decoded) = contained(DECODER, || {
            let reader = self.reader(Cursor::new(file))?;
            let format = reader.format();
            let mut decoder = reader.into_decoder().map_err(image_problem)?;
            let size = self.check_size(decoder.dimensions())?;
            let orientation = self.orientation(&mut decoder)?;
            if format == Some(ImageFormat::Jpeg) && !has_jpeg_end(file) {
                return Err(Problem::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let mut limits = self.allocations();
            limits
                .reserve(decoder.total_bytes())
                .and_then(|()| decoder.set_limits(limits))
                .map_err(image_problem)?;
            let mut decoded = DynamicImage::from_decoder(decoder).map_err(image_problem)?;
            decoded.apply_orientation(orientation);
            Ok((turned(size, orientation), decoded))
        })?;
        let (channels, bytes) = match decoded.color() {
            ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16 => {
                (1, decoded.into_luma8().into_raw())
            }
            _ => (3, colour(decoded)),
        };
        if bytes.len() != size.height * size.width * channels {
            return Err("decodes to another size than its header says".into());
        }
        Ok(Pixels {
            size,
            channels,
            bytes,
        })
    }

    fn reader<R: BufRead + Seek>(self, file: R) -> Read<ImageReader<R>> {
        let mut reader = ImageReader::new(file).with_guessed_format()?;
        reader.limits(self.allocations());
        Ok(reader)
    }

    fn allocations(self) -> Limits {
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.memory());
        limits
    }

    /// Bytes that one image may take: four a pixel.
    fn memory(self) -> u64 {
        self.limits.image_pixels.saturating_mul(4)
    }

    fn orientation(self, decoder: &mut impl ImageDecoder) -> Read<Orientation> {
        match self.turning {
            Turning::Ignored => Ok(Orientation::NoTransforms),
            Turning::Upright => decoder.orientation().map_err(image_problem),
        }
    }

    fn check_size(self, (width, height): (u32, u32)) -> Read<Size> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err("has no pixels".into());
        }
        if pixels > self.limits.image_pixels {
            return Err(format!(
                "has {width} x {height} pixels, the limit is {} in all",
                self.limits.image_pixels
            )
            .into());
        }
        Ok(Size {
            height: height as usize,
            width: width as usize,
        })
    }
}

fn turned(size: Size, orientation: Orientation) -> Size {
    let Size { height, width } = size;
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => Size {
            height: width,
            width: height,
        },
        _ => size,
    }
}

/// Whether a JPEG does not break off. The decoder fills what is missing with grey and says nothing; Pillow refuses such
/// files, even where only the end marker is missing.
///
/// Walks the segments to the end marker; after it anything may follow. Segments carry their length, so that a
/// thumbnail's end marker is not taken for the image's; in entropy-coded data 0xff is followed by 0 or a restart.
fn has_jpeg_end(file: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(found) = file.get(at..).and_then(next_marker) else {
            return false;
        };
        at += found + 1;
        match file.get(at) {
            None => return false,
            Some(0xd9) => return true,
            // Fill bytes, stuffed zeros, restart markers and the other markers without a length.
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => match file.get(at + 1..at + 3) {
                Some(&[high, low]) => at += 1 + usize::from(u16::from_be_bytes([high, low])).max(2),
                _ => return false,
            },
        }
    }
}

/// Where the first byte 0xff is. Most bytes are none, so that sixteen are looked at together.
fn next_marker(bytes: &[u8]) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks::<16>();
    let is_marker = |&byte: &u8| byte == 0xff;
    // All of them are compared, without a branch for each.
    let any = |block: &[u8; 16]| block.iter().fold(false, |any, byte| any | is_marker(byte));
    let skipped = blocks.iter().position(any).unwrap_or(blocks.len()) * 16;
    let found = bytes[skipped..].iter().position(is_marker)?;
    Some(skipped + found)
}

/// Alpha is dropped, as Pillow's `convert("RGB")` does.
fn colour(decoded: DynamicImage) -> Vec<u8> {
    decoded.into_rgb8().into_raw()
}

/// A decoder that panics on a broken file must not end the run.
pub(super) fn contained<T>(decoder: &str, decode: impl FnOnce() -> Read<T>) -> Read<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(format!("made {decoder} panic").into()))
}

fn image_problem(error: ImageError) -> Problem {
    match error {
        ImageError::IoError(source) => Problem::Io(source),
        error => Problem::Content(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    /// Noise, so that no format can compress it to a header.
    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut state = 1_u32;
        let image = RgbImage::from_fn(64, 48, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        });
        let mut file = Cursor::new(vec![]);
        image.write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn decode(file: Vec<u8>) -> Read<Pixels> {
        let limits = DataLimits {
            image_pixels: 1 << 16,
            ..DataLimits::default()
        };
        let turning = Turning::Upright;
        let decoder = Decoder { limits, turning };
        decoder.decode(&decoder.read(&mut Cursor::new(file))?)
    }

    const FORMATS: [(&str, ImageFormat); 6] = [
        ("a.png", ImageFormat::Png),
        ("a.jpg", ImageFormat::Jpeg),
        ("a.webp", ImageFormat::WebP),
        ("a.bmp", ImageFormat::Bmp),
        ("a.gif", ImageFormat::Gif),
        ("a.tiff", ImageFormat::Tiff),
    ];

    #[test]
    fn files_that_break_off_are_refused() {
        for (name, format) in FORMATS {
            let whole = encoded(format);
            assert!(decode(whole.clone()).is_ok(), "{name}");
            for share in [1, 5, 9] {
                let part = whole[..whole.len() * share / 10].to_vec();
                assert!(decode(part).is_err(), "{name} at {share} tenths");
            }
        }
        let whole = encoded(ImageFormat::Jpeg);
        assert!(decode(whole[..whole.len() - 1].to_vec()).is_err());
        assert!(decode([whole.as_slice(), b"trailing"].concat()).is_ok());
    }

    #[test]
    fn changed_bytes_never_end_the_run() {
        for (name, format) in FORMATS {
            let whole = encoded(format);
            let mut state = 7_u32;
            for _ in 0..200 {
                let mut changed = whole.clone();
                for _ in 0..3 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Half of the changes hit the first bytes, where the structure is.
                    let range = if state & 1 == 0 { 64 } else { changed.len() };
                    changed[(state >> 8) as usize % range] = (state >> 1) as u8;
                }
                if let Ok(pixels) = decode(changed) {
                    let size = pixels.size.height * pixels.size.width;
                    assert_eq!(pixels.bytes.len(), size * pixels.channels, "{name}");
                }
            }
        }
    }
}
