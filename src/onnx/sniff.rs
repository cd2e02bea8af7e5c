//! What a file that is no ONNX model looks like, so that the error can say it.

/// First bytes that give a format away.
const MAGIC: &[(&[u8], &str)] = &[
    (
        b"PK\x03\x04",
        "a zip archive, as PyTorch's .pt and Keras' .keras files are",
    ),
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd data; unpack it first"),
    (b"\xfd7zXZ", "xz data; unpack it first"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras' .h5 files are"),
    (b"\x80\x02", "a Python pickle, as PyTorch's .pth files are"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x7fELF", "an executable or library"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer; fetch the file itself with `git lfs pull`",
    ),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML file, as OpenVINO's are"),
];

/// Names of FlatBuffers files, which stand behind the first offset.
const FLATBUFFERS: &[(&[u8], &str)] = &[
    (b"TFL3", "a TensorFlow Lite model"),
    (
        b"ORTM",
        "an ONNX Runtime model (.ort); use the .onnx file it was made from",
    ),
];

/// How much of the start decides whether a file is text.
const TEXT_SAMPLE: usize = 512;

/// What the bytes look like, when they are certainly not an ONNX model.
pub(super) fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(name);
    }
    let identifier = bytes.get(4..8);
    if let Some((_, name)) = FLATBUFFERS
        .iter()
        .find(|(magic, _)| identifier == Some(magic))
    {
        return Some(name);
    }
    let start = &bytes[..bytes.len().min(TEXT_SAMPLE)];
    if bytes.get(257..262) == Some(b"ustar") {
        Some("a tar archive; unpack it first")
    } else if is_safetensors(bytes) {
        Some("a safetensors file, which holds weights without their graph")
    } else if is_text(start) {
        Some(if start.starts_with(b"{") {
            "JSON"
        } else {
            "text"
        })
    } else if start.iter().all(|&byte| byte == 0) {
        Some("zeros only, as an unfinished download is")
    } else {
        None
    }
}

/// A length in eight bytes, then a JSON header.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8..10) == Some(b"{\"") && bytes[5..8] == [0; 3]
}

fn is_text(start: &[u8]) -> bool {
    // The sample may end inside a character.
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or("")
        }
        Err(_) => return false,
    };
    let is_printed = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    !valid.is_empty() && valid.chars().all(is_printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_for_what_they_look_like() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], Option<&str>); 12] = [
            (b"PK\x03\x04rest", Some("zip")),
            (b"\x1f\x8b\x08", Some("gzip")),
            (b"\x89HDF\r\n\x1a\n", Some("HDF5")),
            (b"\x80\x02}q", Some("pickle")),
            (b"\x1c\0\0\0TFL3", Some("TensorFlow Lite")),
            (b"\x18\0\0\0ORTM", Some("ONNX Runtime")),
            (b"\x40\0\0\0\0\0\0\0{\"a\":", Some("safetensors")),
            (
                b"version https://git-lfs.github.com/spec/v1\n",
                Some("git lfs pull"),
            ),
            ("Gr\u{fc}\u{df}e\n".as_bytes(), Some("text")),
            (b"{\"model\": 1}", Some("JSON")),
            (&tar, Some("tar")),
            // The start of a real model.
            (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:", None),
        ];
        for (bytes, expected) in cases {
            let seen = looks_like(bytes);
            let fits = match expected {
                Some(word) => seen.is_some_and(|text| text.contains(word)),
                None => seen.is_none(),
            };
            assert!(fits, "{bytes:?}: {seen:?} instead of {expected:?}");
        }
        assert_eq!(
            looks_like(&[0; 64]),
            Some("zeros only, as an unfinished download is")
        );
    }
}
