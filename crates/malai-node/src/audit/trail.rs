//! Reads the audit record through all its files, the oldest first, and goes on as it grows.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use malai_wire::audit::{MAX_LINE, Record};

use super::files;
use crate::store::{self, StoreError};

/// A longer line is none of malai's, and is not kept in memory.
const LONGEST: usize = 16 * MAX_LINE;

/// The record as it is read.
#[derive(Debug)]
pub struct Trail {
    path: PathBuf,
    /// The file that is read, and those that follow it.
    files: VecDeque<Part>,
    /// The last of them was seen not to be the newest any more.
    superseded: bool,
    unreadable: u64,
}

/// A record, and its line as it stands in the file.
#[derive(Debug)]
pub struct Entry {
    /// What it says.
    pub record: Record,
    /// The line, with a newline.
    pub line: Vec<u8>,
}

#[derive(Debug)]
struct Part {
    file: BufReader<File>,
    identity: (u64, u64),
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
    /// That line is too long already.
    overlong: bool,
}

impl Trail {
    /// The record, from its oldest line on. One that is not there yet is empty.
    ///
    /// # Errors
    ///
    /// A file of it is there and cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut trail = Self {
            path: path.to_path_buf(),
            files: VecDeque::new(),
            superseded: false,
            unreadable: 0,
        };
        // The newest first: files move in the other direction, so that none is missed, and one that
        // moved meanwhile is met twice.
        for file in files(path) {
            if let Some(part) = Part::open(&file)?
                && !trail.knows(part.identity)
            {
                trail.files.push_front(part);
            }
        }
        Ok(trail)
    }

    /// Whether there is any file at all.
    pub fn is_absent(&self) -> bool {
        self.files.is_empty()
    }

    /// Lines so far that hold no whole record.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The next record; none at the end, as it is now.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            let Some(part) = self.files.front_mut() else {
                return Ok(None);
            };
            let line = part
                .next_line()
                .map_err(StoreError::io("read", &self.path))?;
            let Some(line) = line else {
                if self.files.len() == 1 {
                    return Ok(None);
                }
                self.leave_first();
                continue;
            };
            if line.is_empty() {
                continue;
            }
            let (record, torn) = Record::recover(&line);
            self.unreadable += u64::from(torn);
            if let Some(record) = record {
                let line = match torn {
                    true => record.to_line(),
                    false => [&line[..], b"\n"].concat(),
                };
                return Ok(Some(Entry { record, line }));
            }
        }
    }

    /// Nothing more is expected: a line without its end is torn.
    pub fn finish(&mut self) {
        while !self.files.is_empty() {
            self.leave_first();
        }
    }

    fn leave_first(&mut self) {
        if let Some(part) = self.files.pop_front() {
            self.unreadable += u64::from(part.overlong || !part.begun.is_empty());
        }
    }

    /// Looks whether the record goes on in another file. To be called from time to time, and between
    /// two calls [`Trail::next_entry`] until there is none.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn look_again(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.files.back_mut() else {
            *self = Self {
                unreadable: self.unreadable,
                ..Self::open(&self.path)?
            };
            return Ok(());
        };
        let named = fs::metadata(&self.path).ok();
        let named = named.map(|named| (named.dev(), named.ino()));
        if named == Some(last.identity) {
            self.superseded = false;
            self.unreadable += last
                .look_for_truncation()
                .map_err(StoreError::io("read", &self.path))?;
            return Ok(());
        }
        // Whoever had the old file open a moment ago may still be writing to it.
        if !std::mem::replace(&mut self.superseded, true) {
            return Ok(());
        }
        let identity = last.identity;
        let mut newer = Vec::new();
        let mut found = false;
        for file in files(&self.path) {
            match Part::open(&file)? {
                Some(part) if part.identity == identity => {
                    found = true;
                    break;
                }
                Some(part) => newer.push(part),
                None => {}
            }
        }
        if !found {
            // It was removed: what is older than the newest file has been read already.
            newer.truncate(1);
        }
        for part in newer.into_iter().rev() {
            if !self.knows(part.identity) {
                self.files.push_back(part);
                self.superseded = false;
            }
        }
        Ok(())
    }

    fn knows(&self, identity: (u64, u64)) -> bool {
        self.files.iter().any(|part| part.identity == identity)
    }
}

impl Part {
    fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let Some(file) = store::open_file(path)? else {
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

    /// The next whole line, without its newline; of one that is too long only the beginning.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
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
            let room = LONGEST.saturating_sub(self.begun.len());
            self.overlong |= taken > room;
            self.begun.extend_from_slice(&bytes[..taken.min(room)]);
            self.file.consume(taken + usize::from(newline.is_some()));
            if newline.is_some() {
                self.overlong = false;
                return Ok(Some(std::mem::take(&mut self.begun)));
            }
        }
    }

    /// Begins again with a file that somebody emptied; how many lines are lost with that.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::appender::Appender;
    use malai_wire::audit::{Event, Strangers};
    use malai_wire::time::Timestamp;
    use tempfile::tempdir;

    fn line(number: u64) -> Vec<u8> {
        Record {
            time: Timestamp(number),
            event: Event::Strangers(Strangers {
                cluster: "c".into(),
                refused: number,
            }),
            instance: "0".into(),
        }
        .to_line()
    }

    fn read(trail: &mut Trail) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(entry) = trail.next_entry().unwrap() {
            assert_eq!(entry.line, line(entry.record.time.0));
            all.push(entry.record.time.0);
        }
        all
    }

    #[test]
    fn through_all_files_in_order_and_on_through_what_follows() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut trail = Trail::open(&path).unwrap();
        assert!(trail.is_absent() && read(&mut trail).is_empty());
        let mut appender = Appender::new(&path, 3 * line(0).len() as u64);
        let mut write = |numbers: std::ops::Range<u64>| {
            for number in numbers {
                appender.append(&line(number)).unwrap();
            }
        };
        write(0..10);
        assert_eq!(
            read(&mut Trail::open(&path).unwrap()),
            (0..10).collect::<Vec<_>>()
        );
        trail.look_again().unwrap();
        let mut seen = read(&mut trail);
        // Put aside more than once between two looks.
        for round in 1..6 {
            write(round * 10..round * 10 + 7 + round);
            for _ in 0..3 {
                trail.look_again().unwrap();
                seen.extend(read(&mut trail));
            }
        }
        let expected: Vec<u64> = (0..10)
            .chain((1..6).flat_map(|round| round * 10..round * 10 + 7 + round))
            .collect();
        assert_eq!(seen, expected);
        fs::remove_file(&path).unwrap();
        write(90..92);
        for _ in 0..3 {
            trail.look_again().unwrap();
            seen.extend(read(&mut trail));
        }
        assert_eq!(seen[expected.len()..], [90, 91]);
        assert_eq!(trail.unreadable(), 0);
    }

    #[test]
    fn torn_overlong_and_foreign_lines_are_counted_and_swallow_nothing() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let torn = &line(7)[..20];
        let long = vec![b'x'; 3 * LONGEST];
        let parts: [&[u8]; 9] = [
            &line(1),
            torn,
            b"\n\n",
            &line(2),
            &long,
            b"\n",
            torn,
            &line(3),
            torn,
        ];
        fs::write(&path, parts.concat()).unwrap();
        let mut trail = Trail::open(&path).unwrap();
        assert_eq!(read(&mut trail), [1, 2, 3]);
        assert_eq!(trail.unreadable(), 3);
        // The rest of the last line comes after all, and a file that was emptied begins again.
        let more = [&fs::read(&path).unwrap()[..], &line(7)[20..]].concat();
        fs::write(&path, more).unwrap();
        trail.look_again().unwrap();
        assert_eq!(read(&mut trail), [7]);
        fs::write(&path, line(8)).unwrap();
        trail.look_again().unwrap();
        assert_eq!(read(&mut trail), [8]);
        fs::write(&path, [&line(8)[..], torn].concat()).unwrap();
        assert_eq!(read(&mut trail), [0_u64; 0]);
        trail.finish();
        assert_eq!(trail.unreadable(), 4);
    }
}
