//! What a model is, in 64 letters.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::{proto::ModelProto, stream::Stream};
use crate::error::{Error, Result, Site};

/// Takes bytes and keeps their hash.
struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of the encoded model in lower-case hexadecimal, weights included: those read from other
/// files count as if they had been inside.
///
/// # Errors
/// [`Error::Invalid`] when messages are nested deeper than any reader accepts.
pub fn digest(model: &ModelProto) -> Result<String> {
    let mut hashing = Hashing(Sha256::new());
    let written = Stream::new(model).and_then(|stream| stream.write_to(&mut hashing));
    written.map_err(|error| Error::Invalid {
        site: Site::value("model"),
        what: error.to_string(),
    })?;
    let bytes = hashing.0.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::onnx::walk::tests::model_with_tensors_everywhere;

    #[test]
    fn a_digest_is_that_of_the_file() {
        let mut model = model_with_tensors_everywhere();
        let hash = Sha256::digest(model.encode_to_vec());
        let expected: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest(&model).unwrap(), expected);
        model.producer_name = Some("another".to_owned());
        assert_ne!(digest(&model).unwrap(), expected);
    }
}
