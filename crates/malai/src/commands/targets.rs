//! Targets as typed, for every verb that takes them: short names are replaced, and what is not a target gets an answer.

use std::collections::BTreeMap;

use malai_cluster::{AddressError, Target, Targets, escape};
use malai_node::{Home, Names, Settings};
use malai_wire::control::ForwardTo;

use crate::cli::instead;

/// Parses targets. Short names are those of `malai.toml` as it is now: a daemon does not know them, so a new one needs no
/// rescan.
///
/// # Errors
///
/// The text is not a list of targets, with a suggestion where there is one.
pub fn parse(home: &Home, text: &str) -> anyhow::Result<Targets> {
    // Nearly always it is one machine, and no file has to be read.
    if let Ok(target) = Target::parse(text) {
        return Ok(target.into());
    }
    let settings = Settings::load(home);
    let none = BTreeMap::new();
    let aliases = settings
        .as_ref()
        .map_or(&none, |settings| &settings.aliases);
    let error = match Targets::parse(text, |alias| aliases.get(alias).cloned()) {
        Ok(targets) => return Ok(targets),
        Err(error) => error,
    };
    match (settings, error) {
        // It may be a short name that cannot be read.
        (Err(broken), AddressError::NoDot { .. }) => Err(broken.into()),
        (_, error) => {
            let instead = instead::targets(text, &Names::of(home));
            Err(instead.map_or_else(|| error.into(), anyhow::Error::msg))
        }
    }
}

/// Parses a target that has to be one machine.
///
/// # Errors
///
/// As [`parse`], or it may match several machines.
pub fn one(home: &Home, text: &str) -> anyhow::Result<Target> {
    parse(home, text)?.plain().ok_or_else(|| {
        let text = format!("`{}`", escape(text));
        AddressError::Several { text }.into()
    })
}

/// Reads `<service>.<cluster>`, `<machine>.<cluster>:<host>:<port>` or `<machine>.<cluster>:<path>`. Without the rest, the target is
/// reached itself, which only a service can be.
///
/// # Errors
///
/// As [`one`], or the rest is no address.
pub fn with_destination(home: &Home, text: &str) -> anyhow::Result<(Target, ForwardTo)> {
    let (target, to) = match text.split_once(':') {
        None => (text, ForwardTo::Service),
        Some((target, rest)) => {
            let reached = malai_node::reached(rest);
            (
                target,
                ForwardTo::Through(reached.map_err(anyhow::Error::msg)?),
            )
        }
    };
    Ok((one(home, target)?, to))
}
