//! Named float32 tensors and strings in one safetensors file: what model files and checkpoints are made of.
//!
//! Reading goes through the `safetensors` crate's header checks, then allocates only for tensors whose name, type and
//! dimensions the caller expects, so a hostile header costs at most [`MAX_HEADER`] bytes. Writing is our own twenty
//! lines, because the crate orders metadata by a random hash and wants the whole file in memory: here equal content
//! gives equal bytes, and tensors are streamed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};
use xxhash_rust::xxh3::Xxh3;

/// The longest header that is read, in bytes. A vocabulary of 65,534 tokens and 64 layers need less than a tenth.
pub const MAX_HEADER: u64 = 16 << 20;

/// Metadata key of the content's checksum.
const CHECKSUM: &str = "checksum";

/// Why a file could not be read or written. Shown after the file's path.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A folder, a device, a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// Too short for any header, or a header length no header has.
    #[error("not a safetensors file ({0})")]
    NotSafetensors(String),
    /// The header promises more or fewer bytes than there are.
    #[error(
        "truncated or damaged: the header describes {expected} bytes, the file has {found}; copy it again or use another checkpoint"
    )]
    Length {
        /// Bytes that the header describes.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// The content does not give the checksum that was written with it.
    #[error(
        "damaged: its content has checksum {found}, it was written with {expected}; copy it again or use another checkpoint (where another program changed it on purpose, remove `checksum` from its metadata)"
    )]
    Checksum {
        /// Checksum in the metadata.
        expected: String,
        /// Checksum of what was read.
        found: String,
    },
    /// A tensor that must be there is not.
    #[error("no tensor `{name}`; expected {dims:?}")]
    Missing {
        /// Its name.
        name: String,
        /// Dimensions expected.
        dims: Vec<usize>,
    },
    /// A tensor of other dimensions.
    #[error("tensor `{name}` is {found:?}, expected {expected:?}")]
    Dims {
        /// Its name.
        name: String,
        /// Dimensions expected.
        expected: Vec<usize>,
        /// Dimensions found.
        found: Vec<usize>,
    },
    /// A tensor of another number type.
    #[error("tensor `{name}` has type {found}, expected F32")]
    Type {
        /// Its name.
        name: String,
        /// Type found.
        found: String,
    },
    /// Not enough memory.
    #[error("out of memory: {bytes} bytes needed for tensor `{name}`")]
    Memory {
        /// Its name.
        name: String,
        /// Bytes needed.
        bytes: u64,
    },
}

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct TensorRef<'a> {
    /// Its name.
    pub name: String,
    /// Row-major dimensions.
    pub dims: Vec<usize>,
    /// Its elements.
    pub data: &'a [f32],
}

/// Writes `metadata`, a checksum and `tensors` (in the order given) as safetensors.
pub fn write(
    out: &mut dyn Write,
    metadata: &BTreeMap<String, String>,
    tensors: &[TensorRef<'_>],
) -> io::Result<()> {
    let mut metadata = metadata.clone();
    metadata.remove(CHECKSUM);
    let mut by_name: Vec<&TensorRef<'_>> = tensors.iter().collect();
    by_name.sort_by(|a, b| a.name.cmp(&b.name));
    let mut sum = ContentSum::new(metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    for tensor in by_name {
        sum.tensor(&tensor.name, &tensor.dims);
        le_blocks(tensor.data, |bytes| {
            sum.0.update(bytes);
            Ok(())
        })?;
    }
    metadata.insert(CHECKSUM.into(), sum.finish());

    // Written by hand, as serde_json::Map would need a feature to keep this order.
    let mut header = format!("{{\"__metadata__\":{}", serde_json::to_string(&metadata)?);
    let mut offset = 0u64;
    for tensor in tensors {
        let end = offset + 4 * tensor.data.len() as u64;
        let name = serde_json::to_string(&tensor.name)?;
        header += &format!(
            ",{name}:{{\"dtype\":\"F32\",\"shape\":{},\"data_offsets\":[{offset},{end}]}}",
            serde_json::to_string(&tensor.dims)?
        );
        offset = end;
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for tensor in tensors {
        le_blocks(tensor.data, |bytes| out.write_all(bytes))?;
    }
    Ok(())
}

/// An open file whose header has been read and checked.
#[derive(Debug)]
pub struct TensorFile {
    file: File,
    metadata: BTreeMap<String, String>,
    header: Metadata,
    /// Where the tensors' bytes begin.
    data_start: u64,
}

impl TensorFile {
    /// Reads and checks the header, the file's length and, where there is one, its checksum.
    pub fn open(path: &Path) -> Result<TensorFile, TensorError> {
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(TensorError::NotAFile);
        }
        let found = about.len();
        if found < 10 {
            return Err(TensorError::NotSafetensors(format!("only {found} bytes")));
        }
        let mut length = [0u8; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(TensorError::NotSafetensors(format!(
                "a header of {length} bytes is claimed, at most {MAX_HEADER} is possible"
            )));
        }
        if length + 8 > found {
            return Err(TensorError::Length { expected: length + 8, found });
        }
        let mut bytes = vec![0u8; length as usize];
        file.read_exact(&mut bytes)?;
        let header: Metadata = serde_json::from_slice(&bytes)
            .map_err(|error| TensorError::NotSafetensors(format!("its header is damaged: {error}")))?;
        let expected = (length + 8).saturating_add(header.data_len() as u64);
        if expected != found {
            return Err(TensorError::Length { expected, found });
        }
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let mut this = TensorFile { file, metadata, header, data_start: length + 8 };
        this.verify()?;
        Ok(this)
    }

    /// The strings stored with the tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.header.offset_keys();
        names.sort();
        names
    }

    /// Dimensions of a tensor, where there is one of that name.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    /// Reads a float32 tensor of exactly these dimensions.
    pub fn read(&mut self, name: &str, dims: &[usize]) -> Result<Vec<f32>, TensorError> {
        let Some(info) = self.header.info(name) else {
            return Err(TensorError::Missing { name: name.into(), dims: dims.to_vec() });
        };
        if info.dtype != Dtype::F32 {
            return Err(TensorError::Type { name: name.into(), found: info.dtype.to_string() });
        }
        if info.shape != dims {
            return Err(TensorError::Dims {
                name: name.into(),
                expected: dims.to_vec(),
                found: info.shape.clone(),
            });
        }
        // The header was checked: the byte range is the dimensions' product times four and lies within the file.
        let (begin, end) = info.data_offsets;
        let count = (end - begin) / 4;
        let mut values: Vec<f32> = Vec::new();
        values
            .try_reserve_exact(count)
            .map_err(|_| TensorError::Memory { name: name.into(), bytes: (end - begin) as u64 })?;
        self.stream(begin, end, |bytes| {
            values.extend(bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)));
        })?;
        Ok(values)
    }

    /// Compares the content with the checksum in the metadata, where there is one.
    fn verify(&mut self) -> Result<(), TensorError> {
        let Some(expected) = self.metadata.get(CHECKSUM).cloned() else { return Ok(()) };
        let mut sum = ContentSum::new(
            self.metadata.iter().filter(|(k, _)| *k != CHECKSUM).map(|(k, v)| (k.as_str(), v.as_str())),
        );
        for name in self.names() {
            let Some(info) = self.header.info(&name) else { continue };
            let (begin, end) = info.data_offsets;
            sum.tensor(&name, &info.shape);
            self.stream(begin, end, |bytes| sum.0.update(bytes))?;
        }
        let found = sum.finish();
        if found == expected { Ok(()) } else { Err(TensorError::Checksum { expected, found }) }
    }

    /// Gives the data bytes `begin..end` in blocks, each a multiple of four bytes long where the range is.
    fn stream(&mut self, begin: usize, end: usize, mut each: impl FnMut(&[u8])) -> Result<(), TensorError> {
        self.file.seek(SeekFrom::Start(self.data_start + begin as u64))?;
        let mut block = vec![0u8; (end - begin).min(1 << 18)];
        let mut left = end - begin;
        while left > 0 {
            let n = left.min(block.len());
            self.file.read_exact(&mut block[..n])?;
            each(&block[..n]);
            left -= n;
        }
        Ok(())
    }
}

/// XXH3 over metadata and tensors in the order of their names, independent of where they lie in the file.
struct ContentSum(Xxh3);

impl ContentSum {
    fn new<'a>(metadata: impl Iterator<Item = (&'a str, &'a str)>) -> ContentSum {
        let mut sum = ContentSum(Xxh3::new());
        for (key, value) in metadata {
            sum.string(key);
            sum.string(value);
        }
        sum
    }

    fn string(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    fn tensor(&mut self, name: &str, dims: &[usize]) {
        self.string(name);
        for &dim in dims {
            self.0.update(&(dim as u64).to_le_bytes());
        }
    }

    fn finish(&self) -> String {
        format!("xxh3:{:016x}", self.0.digest())
    }
}

/// Gives `data` as little-endian bytes, block by block.
fn le_blocks(data: &[f32], mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for block in data.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        each(&bytes)?;
    }
    Ok(())
}

/// Writes a file whole or not at all: to a temporary name in the same folder, synced, renamed, the folder synced.
pub(crate) fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = folder.join(name);
    let written = (|| {
        let mut out = io::BufWriter::with_capacity(1 << 18, File::create(&temporary)?);
        fill(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
