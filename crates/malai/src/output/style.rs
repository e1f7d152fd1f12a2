//! The colors of malai's own output: used on a terminal that supports them, unless `NO_COLOR` is set
//! (<https://no-color.org>).

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use anstyle::{AnsiColor, Style};

/// A machine's name before a line of its standard output.
pub const STDOUT_LABEL: Style = AnsiColor::Cyan.on_default();

/// A machine's name before a line of its standard error.
pub const STDERR_LABEL: Style = AnsiColor::Yellow.on_default();

/// The word ERROR in the log.
pub const LOG_ERROR: Style = AnsiColor::Red.on_default();

/// The word WARN in the log.
pub const LOG_WARNING: Style = AnsiColor::Yellow.on_default();

/// A heading, or a command to type.
pub const STRONG: Style = Style::new().bold();

/// Whether output to this stream is styled.
pub fn is_styled(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// The text in this style, or unchanged.
pub fn paint(text: &str, style: Style, is_styled: bool) -> String {
    if is_styled {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}
