//! A pty by itself: its size, what it holds, the end of its input.

use std::io::{Read, Write};

use malai_wire::peer::exec::Term;

use super::*;

fn pty() -> Pty {
    let size = Size {
        columns: 101,
        rows: 33,
        ..Size::default()
    };
    let term = Term::dumb();
    Pty::open(&Terminal { term, size }, None).unwrap()
}

fn command_side(pty: &Pty) -> std::fs::File {
    pty.side_of_command().unwrap().into()
}

#[test]
fn it_has_the_size_it_is_given() {
    let pty = pty();
    let size = || rustix::termios::tcgetwinsize(&pty.slave).unwrap();
    assert_eq!((size().ws_col, size().ws_row), (101, 33));
    let size_now = Size {
        columns: 7,
        rows: 9,
        width_pixels: 70,
        height_pixels: 90,
    };
    pty.resize(size_now).unwrap();
    let size = size();
    let shown = (size.ws_col, size.ws_row, size.ws_xpixel, size.ws_ypixel);
    assert_eq!(shown, (7, 9, 70, 90));
}

#[test]
fn all_that_was_written_is_its_rest_and_no_more_than_it_can_hold() {
    let pty = pty();
    assert!(pty.rest().unwrap().is_empty());
    for round in 0..200 {
        // Written and looked for at once: the system has not moved it on by itself yet.
        let text = format!("{round} {}", "x".repeat(3000));
        command_side(&pty).write_all(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(pty.rest().unwrap()).unwrap(), text);
    }
}

#[test]
fn what_is_written_all_the_while_does_not_make_the_rest_endless() {
    let pty = pty();
    let mut background = command_side(&pty);
    let writing = std::thread::spawn(move || while background.write_all(&[b'y'; 512]).is_ok() {});
    while rustix::io::ioctl_fionread(&pty.master).unwrap() == 0 {
        std::thread::yield_now();
    }
    let rest = pty.rest().unwrap();
    assert!(!rest.is_empty() && rest.len() < REST + 4096);
    // It hangs up, and the writer's writes fail.
    drop(pty);
    writing.join().unwrap();
}

#[test]
fn the_end_of_input_ends_a_read_behind_whole_and_unfinished_lines() {
    for (typed, unfinished) in [("a line\n", false), ("half a line", true)] {
        let pty = pty();
        let bytes = [typed.as_bytes(), &pty.end_of_input(unfinished)].concat();
        assert_eq!(rustix::io::write(&pty.master, &bytes).unwrap(), bytes.len());
        let mut read = String::new();
        command_side(&pty).read_to_string(&mut read).unwrap();
        assert_eq!(read, typed);
    }
}

#[test]
fn erasing_takes_a_whole_character() {
    let pty = pty();
    rustix::io::write(&pty.master, "añ\u{7f}b\n".as_bytes()).unwrap();
    let mut line = [0; 8];
    let count = command_side(&pty).read(&mut line).unwrap();
    assert_eq!(&line[..count], b"ab\n");
}
