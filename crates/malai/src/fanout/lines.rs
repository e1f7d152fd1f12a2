//! Splits one machine's output into lines that carry its name and are safe to show. Pure.

use malai_cluster::escape_line;

/// The maximum length of a line that is passed on as a whole, in input bytes.
pub const LONGEST: usize = 64 * 1024;

/// Marks the end of a piece of a longer line, and the start of the next one.
const CUT: [&[u8]; 2] = [b" [cut]", b"[goes on] "];

/// One stream of a machine.
#[derive(Debug)]
pub struct Lines {
    prefix: Vec<u8>,
    /// The start of a line whose end has not arrived.
    partial: Vec<u8>,
    /// Whether the next bytes continue a line of which a piece was passed on.
    goes_on: bool,
}

impl Lines {
    /// No output yet. The prefix is used verbatim.
    pub fn new(prefix: impl Into<Vec<u8>>) -> Self {
        Self {
            prefix: prefix.into(),
            partial: Vec::new(),
            goes_on: false,
        }
    }

    /// Adds what has arrived, and returns the lines that it completes.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            self.take(line, &mut whole);
            let line = std::mem::take(&mut self.partial);
            // If a line was cut exactly at its end, the end needs no line of its own.
            if !(line.is_empty() && self.goes_on) {
                self.write(&line, false, &mut whole);
            }
            self.goes_on = false;
            bytes = rest;
        }
        self.take(bytes, &mut whole);
        whole
    }

    /// The last line, if it has no end.
    pub fn finish(&mut self) -> Vec<u8> {
        match self.partial.is_empty() {
            true => Vec::new(),
            false => self.push(b"\n"),
        }
    }

    /// Adds to the current line, and passes on pieces of it while it is too long.
    fn take(&mut self, mut bytes: &[u8], whole: &mut Vec<u8>) {
        while self.partial.len() + bytes.len() > LONGEST {
            let (now, later) = bytes.split_at(LONGEST - self.partial.len());
            self.partial.extend_from_slice(now);
            bytes = later;
            let chunk = std::mem::take(&mut self.partial);
            let (now, later) = chunk.split_at(boundary(&chunk));
            self.write(now, true, whole);
            self.partial.extend_from_slice(later);
            self.goes_on = true;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn write(&self, line: &[u8], cut: bool, whole: &mut Vec<u8>) {
        whole.extend_from_slice(&self.prefix);
        if self.goes_on {
            whole.extend_from_slice(CUT[1]);
        }
        escape_line(line, whole);
        if cut {
            whole.extend_from_slice(CUT[0]);
        }
        whole.push(b'\n');
    }
}

/// Where to cut a long piece so that no character is split.
fn boundary(chunk: &[u8]) -> usize {
    let continues = |byte: &&u8| **byte & 0xc0 == 0x80;
    let tail = chunk.iter().rev().take(3).take_while(continues).count();
    let lead = chunk.len() - tail - 1;
    let length = match chunk[lead] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 0,
    };
    if length > tail + 1 { lead } else { chunk.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> String {
        let mut lines = Lines::new("m: ");
        let mut all: Vec<u8> = chunks.iter().flat_map(|chunk| lines.push(chunk)).collect();
        all.extend(lines.finish());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn lines_are_whole_however_they_arrive_and_the_last_gets_its_end() {
        let text = "one\n\ntwo ü\tx\nthree".as_bytes();
        let expected = "m: one\nm: \nm: two ü\tx\nm: three\n";
        assert_eq!(lines(&[text]), expected);
        for size in 1..text.len() {
            let chunks: Vec<_> = text.chunks(size).collect();
            assert_eq!(lines(&chunks), expected, "{size}");
        }
        assert_eq!(lines(&[b""]), "");
        assert_eq!(lines(&[b"a\n"]), "m: a\n");
    }

    #[test]
    fn nothing_of_a_line_is_passed_on_before_its_end() {
        let mut lines = Lines::new("m: ");
        assert_eq!(lines.push(b"half"), b"");
        assert_eq!(lines.push(b" and half\nmore"), b"m: half and half\n");
    }

    #[test]
    fn escape_sequences_do_nothing() {
        assert_eq!(
            lines(&[b"\x1b[2Jm2: forged\rm3: forged\xff\n"]),
            "m: \\x1b[2Jm2: forged\\rm3: forged\\xff\n"
        );
        assert_eq!(lines(&[b"dos\r\n"]), "m: dos\r\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters_and_says_so() {
        let exact = "x".repeat(LONGEST);
        assert_eq!(lines(&[exact.as_bytes(), b"\n"]), format!("m: {exact}\n"));
        let long = format!("{exact}yz\nnext\n");
        let expected = format!("m: {exact} [cut]\nm: [goes on] yz\nm: next\n");
        assert_eq!(lines(&[long.as_bytes()]), expected);
        for chunk in ["ü", "€", "😀"] {
            let long = "a".to_owned() + &chunk.repeat(LONGEST / chunk.len() + 1);
            let found = lines(&[long.as_bytes()]);
            let parts: Vec<_> = found.lines().collect();
            assert_eq!(parts.len(), 2, "{chunk}");
            let first = parts[0]
                .strip_prefix("m: ")
                .unwrap()
                .strip_suffix(" [cut]")
                .unwrap();
            let second = parts[1].strip_prefix("m: [goes on] ").unwrap();
            assert!(
                first.len() > LONGEST - 4 && format!("{first}{second}") == long,
                "{chunk}"
            );
        }
        // Bytes that only look as if a character began stay as they are, each escaped.
        let broken = vec![0xf0; LONGEST + 1];
        assert_eq!(lines(&[&broken]).matches("\\xf0").count(), LONGEST + 1);
        let one = lines(&[exact.as_bytes(), exact.as_bytes(), b"y"]);
        assert_eq!(one.matches("[cut]").count(), 2);
    }

    #[test]
    fn what_is_kept_of_an_endless_line_is_bounded() {
        let mut lines = Lines::new("m: ");
        for _ in 0..100 {
            lines.push(&[b'x'; 10_000]);
            assert!(lines.partial.len() <= LONGEST && lines.partial.capacity() <= 4 * LONGEST);
        }
    }
}
