//! Reads the lines of a rotated log: through all its files, oldest first, and on as it grows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::os::fs::{self, StoreError};

/// The files, read as one.
#[derive(Debug)]
pub struct RotatedReader {
    /// Newest first; never empty.
    names: Vec<PathBuf>,
    /// The maximum length of a line in bytes; the rest of a longer line is dropped.
    longest: usize,
    /// The file being read, and those after it.
    files: VecDeque<Node>,
    /// The last of them is known not to be the newest any more.
    superseded: bool,
    torn: u64,
}

#[derive(Debug)]
struct Node {
    file: BufReader<File>,
    identity: (u64, u64),
    /// The start of a line whose end has not been written yet.
    begun: Vec<u8>,
    /// That line is already too long.
    overlong: bool,
}

impl RotatedReader {
    /// The files with these names, newest first, read from the oldest line on. Missing files count as empty.
    ///
    /// # Errors
    ///
    /// A file exists but cannot be read.
    pub fn open(names: Vec<PathBuf>, longest: usize) -> Result<Self, StoreError> {
        let mut opened = Self {
            names,
            longest,
            files: VecDeque::new(),
            superseded: false,
            torn: 0,
        };
        // Newest first: rotation moves files in the other direction, so none is missed, and one that moves meanwhile is
        // seen twice.
        for name in &opened.names {
            if let Some(node) = Node::open(name)?
                && !is_member(&opened.files, node.identity)
            {
                opened.files.push_front(node);
            }
        }
        Ok(opened)
    }

    /// Whether there is no file at all.
    pub fn is_absent(&self) -> bool {
        self.files.is_empty()
    }

    /// How many lines without an end were found so far.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// The next complete line, without its newline; `None` at the current end. Of a line that is too long, only the
    /// start.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        loop {
            let Some(node) = self.files.front_mut() else {
                return Ok(None);
            };
            let line = node
                .next_line(self.longest)
                .map_err(StoreError::io("read", &self.names[0]))?;
            match line {
                None if self.files.len() == 1 => return Ok(None),
                None => self.leave_first(),
                line => return Ok(line),
            }
        }
    }

    /// Marks the end of reading: a line without its end counts as torn.
    pub fn finish(&mut self) {
        while !self.files.is_empty() {
            self.leave_first();
        }
    }

    fn leave_first(&mut self) {
        if let Some(node) = self.files.pop_front() {
            self.torn += u64::from(node.overlong || !node.begun.is_empty());
        }
    }

    /// Checks for newer files. Call it from time to time, and call [`RotatedReader::next_line`] until `None` between two
    /// calls.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn poll(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.files.back_mut() else {
            let torn = self.torn;
            *self = Self::open(std::mem::take(&mut self.names), self.longest)?;
            self.torn = torn;
            return Ok(());
        };
        let named = std::fs::metadata(&self.names[0]).ok();
        let named = named.map(|named| (named.dev(), named.ino()));
        if named == Some(last.identity) {
            self.superseded = false;
            self.torn += last
                .look_for_truncation()
                .map_err(StoreError::io("read", &self.names[0]))?;
            return Ok(());
        }
        // A process that had the old file open may still be writing to it.
        if !std::mem::replace(&mut self.superseded, true) {
            return Ok(());
        }
        let identity = last.identity;
        let mut newer = Vec::new();
        let mut found = false;
        for file in &self.names {
            match Node::open(file)? {
                Some(node) if node.identity == identity => {
                    found = true;
                    break;
                }
                Some(node) => newer.push(node),
                None => {}
            }
        }
        if !found {
            // It was removed: everything older than the newest file has been read already.
            newer.truncate(1);
        }
        for node in newer.into_iter().rev() {
            if !is_member(&self.files, node.identity) {
                self.files.push_back(node);
                self.superseded = false;
            }
        }
        Ok(())
    }
}

fn is_member(files: &VecDeque<Node>, identity: (u64, u64)) -> bool {
    files.iter().any(|node| node.identity == identity)
}

impl Node {
    fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let Some(file) = fs::open_file(path)? else {
            return Ok(None);
        };
        let metadata = file.metadata().map_err(StoreError::io("read", path))?;
        Ok(Some(Self {
            file: BufReader::with_capacity(64 * 1024, file),
            identity: (metadata.dev(), metadata.ino()),
            begun: Vec::new(),
            overlong: false,
        }))
    }

    /// The next complete line, without its newline; of one that is too long, only the start.
    fn next_line(&mut self, longest: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            let bytes = match self.file.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if bytes.is_empty() {
                return Ok(None);
            }
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or(bytes.len());
            let room = longest.saturating_sub(self.begun.len());
            self.overlong |= taken > room;
            self.begun.extend_from_slice(&bytes[..taken.min(room)]);
            self.file.consume(taken + usize::from(newline.is_some()));
            if newline.is_some() {
                self.overlong = false;
                return Ok(Some(std::mem::take(&mut self.begun)));
            }
        }
    }

    /// Starts again if the file was truncated; returns how many lines were lost by that.
    fn look_for_truncation(&mut self) -> io::Result<u64> {
        let size = self.file.get_ref().metadata()?.len();
        if self.file.stream_position()? <= size {
            return Ok(0);
        }
        self.file.rewind()?;
        let lost = u64::from(!self.begun.is_empty());
        self.begun.clear();
        self.overlong = false;
        Ok(lost)
    }
}
