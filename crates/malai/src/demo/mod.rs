//! `malai demo`: a throwaway cluster of real daemons on this computer's loopback.
//!
//! Every step runs this program the way a person would type it, and prints its output. The results are checked: the demo
//! succeeds only if every scene does what it promises.

pub mod guard;
pub mod sandbox;
pub mod scenes;
pub mod timing;

use std::time::Instant;

use guard::Interrupts;
use sandbox::Stage;

use crate::output::exit::Exit;
use crate::output::{Printer, duration};

/// Plays all scenes, then removes everything; with `keep`, prints how to continue by hand.
pub fn run(keep: bool, printer: &Printer) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let interrupts = Interrupts::catch()?;
    let stage = Stage::build(printer, &interrupts)?;
    let mut played = scenes::play(&stage);
    if keep && played.is_ok() {
        played = scenes::wake_manager(&stage);
    }
    if let (Ok(()), None, true) = (&played, interrupts.caught(), keep) {
        printer.out(&stage.how_to_go_on());
        stage.leave_standing();
        return Ok(Exit::OK);
    }
    let cleared = stage.clear();
    if let Some(signal) = interrupts.caught() {
        cleared?;
        printer
            .say("the demo was interrupted; its daemons were stopped and its folder was removed");
        return Ok(Exit(128 + signal));
    }
    played?;
    cleared?;
    printer.out(&format!(
        "\n✅ Every step did what it says, in {}. The daemons were stopped and the folder was removed.\n",
        duration::format(begun.elapsed())
    ));
    Ok(Exit::OK)
}
