//! Both directions of a conversation, as frames over a pipe each.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use malai_wire::copy::{self, DATA, MAX_DATA};
use malai_wire::frame::{HEAD, Tagged};

use super::CopyError;

/// How much is read or written at once, in bytes.
const BUFFER: usize = 2 * MAX_DATA;

/// What was read.
pub(super) enum Frame<T> {
    /// A message.
    Message(T),
    /// Bytes of a file, in the reader's [`FrameReader::data`].
    Data,
}

/// Reads frames.
pub(super) struct FrameReader<R> {
    input: BufReader<R>,
    /// The body of the last frame.
    pub data: Vec<u8>,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER, input),
            data: Vec::new(),
        }
    }

    /// Whether the next frame may have to be waited for.
    pub(super) fn may_wait(&self) -> bool {
        let buffered = self.input.buffer();
        let Some(head) = buffered.first_chunk::<HEAD>() else {
            return true;
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        buffered.len()
            < usize::try_from(length)
                .unwrap_or(usize::MAX)
                .saturating_add(4)
    }

    /// The next frame; none where the other side has ended between two.
    pub(super) fn next<T: Tagged>(&mut self) -> Result<Option<Frame<T>>, CopyError> {
        if self.input.fill_buf().map_err(CopyError::Lost)?.is_empty() {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        self.input.read_exact(&mut head).map_err(CopyError::Lost)?;
        let (tag, length) = copy::head(head)?;
        if tag == DATA && length > MAX_DATA {
            return Err(CopyError::Protocol(format!("{length} bytes in one frame")));
        }
        self.data.clear();
        let taken = (&mut self.input)
            .take(length as u64)
            .read_to_end(&mut self.data)
            .map_err(CopyError::Lost)?;
        if taken < length {
            return Err(CopyError::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        if tag == DATA {
            return Ok(Some(Frame::Data));
        }
        Ok(Some(Frame::Message(copy::decode(tag, &self.data)?)))
    }

    /// The next message, where bytes of a file are not expected.
    pub(super) fn message<T: Tagged>(&mut self) -> Result<Option<T>, CopyError> {
        match self.next()? {
            Some(Frame::Message(message)) => Ok(Some(message)),
            Some(Frame::Data) => Err(CopyError::Protocol("bytes of no file".into())),
            None => Ok(None),
        }
    }
}

/// Writes frames.
pub(super) struct FrameWriter<W: Write>(BufWriter<W>);

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(output: W) -> Self {
        Self(BufWriter::with_capacity(BUFFER, output))
    }

    pub(super) fn send(&mut self, message: &impl Tagged) -> Result<(), CopyError> {
        self.0
            .write_all(&message.to_frame())
            .map_err(CopyError::Lost)
    }

    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        self.0
            .write_all(&copy::data_head(bytes.len()))
            .and_then(|()| self.0.write_all(bytes))
            .map_err(CopyError::Lost)
    }

    pub(super) fn flush(&mut self) -> Result<(), CopyError> {
        self.0.flush().map_err(CopyError::Lost)
    }
}
