//! Reads the audit record through all its files, oldest first, and continues as it grows.

use std::path::{Path, PathBuf};

use malai_wire::audit::{MAX_LINE, Record};

use super::files;

use crate::os::fs::StoreError;
use crate::os::rotated_log::RotatedReader;

/// malai never writes longer lines, so they are not stored.
const LONGEST: usize = 16 * MAX_LINE;

/// Reads the record.
#[derive(Debug)]
pub struct AuditReader {
    lines: RotatedReader,
    unreadable: u64,
}

/// A record, and its line in the file.
#[derive(Debug)]
pub struct Entry {
    /// The parsed record.
    pub record: Record,
    /// The line, including its newline.
    pub line: Vec<u8>,
}

impl AuditReader {
    /// Opens the record at its oldest line. A missing record counts as empty.
    ///
    /// # Errors
    ///
    /// One of its files exists but cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::of_files(files(path).collect())
    }

    /// Opens only these of its files, newest first.
    ///
    /// # Errors
    ///
    /// One of them exists but cannot be read.
    pub(crate) fn of_files(names: Vec<PathBuf>) -> Result<Self, StoreError> {
        Ok(Self {
            lines: RotatedReader::open(names, LONGEST)?,
            unreadable: 0,
        })
    }

    /// Whether there is no file at all.
    pub fn is_absent(&self) -> bool {
        self.lines.is_absent()
    }

    /// How many lines without a complete record were found so far.
    pub fn unreadable(&self) -> u64 {
        self.unreadable + self.lines.torn()
    }

    /// The next record; `None` at the current end.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, StoreError> {
        while let Some(line) = self.lines.next_line()? {
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
        Ok(None)
    }

    /// Marks the end of reading: a line without its end counts as torn.
    pub fn finish(&mut self) {
        self.lines.finish();
    }

    /// Checks whether the record continues in another file: see [`RotatedReader::poll`].
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn poll(&mut self) -> Result<(), StoreError> {
        self.lines.poll()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::appender::Appender;
    use malai_wire::audit::{Event, Strangers};
    use malai_wire::time::Timestamp;
    use std::fs;
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

    fn read(trail: &mut AuditReader) -> Vec<u64> {
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
        let mut trail = AuditReader::open(&path).unwrap();
        assert!(trail.is_absent() && read(&mut trail).is_empty());
        let mut appender = Appender::new(&path, 3 * line(0).len() as u64);
        let mut write = |numbers: std::ops::Range<u64>| {
            for number in numbers {
                appender.append(&line(number)).unwrap();
            }
        };
        write(0..10);
        assert_eq!(
            read(&mut AuditReader::open(&path).unwrap()),
            (0..10).collect::<Vec<_>>()
        );
        trail.poll().unwrap();
        let mut seen = read(&mut trail);
        // Rotated more than once between two checks.
        for round in 1..6 {
            write(round * 10..round * 10 + 7 + round);
            for _ in 0..3 {
                trail.poll().unwrap();
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
            trail.poll().unwrap();
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
        let mut trail = AuditReader::open(&path).unwrap();
        assert_eq!(read(&mut trail), [1, 2, 3]);
        assert_eq!(trail.unreadable(), 3);
        // The rest of the last line comes after all, and a file that was emptied begins again.
        let more = [&fs::read(&path).unwrap()[..], &line(7)[20..]].concat();
        fs::write(&path, more).unwrap();
        trail.poll().unwrap();
        assert_eq!(read(&mut trail), [7]);
        fs::write(&path, line(8)).unwrap();
        trail.poll().unwrap();
        assert_eq!(read(&mut trail), [8]);
        fs::write(&path, [&line(8)[..], torn].concat()).unwrap();
        assert_eq!(read(&mut trail), [0_u64; 0]);
        trail.finish();
        assert_eq!(trail.unreadable(), 4);
    }
}
