//! One line on a terminal that is drawn again and again.

use std::cell::Cell;
use std::io::{self, Write};

use super::progress;

/// The line; hidden unless a person sees it.
#[derive(Debug)]
pub struct LiveLine {
    is_shown: bool,
    is_drawn: Cell<bool>,
}

impl LiveLine {
    /// Nothing is drawn yet; never, if it is not wanted.
    pub fn new(is_wanted: bool) -> Self {
        Self {
            is_shown: is_wanted && progress::watched(),
            is_drawn: Cell::new(false),
        }
    }

    /// Draws it in place of the one before.
    pub fn draw(&self, text: &str) {
        if self.is_shown {
            self.is_drawn.set(true);
            let _ = io::stderr().write_all(format!("{}{text}", progress::ERASE).as_bytes());
        }
    }

    /// Erases it.
    pub fn clear(&self) {
        if self.is_drawn.replace(false) {
            let _ = io::stderr().write_all(progress::ERASE.as_bytes());
        }
    }
}
