//! A command entry: a command that may be run by name, by the members in its list.

use crate::allow::AllowList;
use crate::name::{CommandName, UserName};

/// One `[machine.X.command.Y]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub(crate) name: CommandName,
    /// As written in the file.
    pub(crate) line: Option<Box<str>>,
    pub(crate) words: Words,
    pub(crate) allow_from: Option<AllowList>,
    pub(crate) usernames: Box<[UserName]>,
    pub(crate) args: bool,
    pub(crate) forced: bool,
}

impl Command {
    /// The name that callers use.
    pub fn name(&self) -> &CommandName {
        &self.name
    }

    /// The words to run, at least one. By default just the name.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter()
    }

    /// Its own list of who may run it; `None` if the machine's list applies.
    pub fn allow_from(&self) -> Option<&AllowList> {
        self.allow_from.as_ref()
    }

    /// Its own user; `None` if the machine's user applies.
    pub fn username(&self) -> Option<&UserName> {
        self.usernames.first()
    }

    /// The users that a caller may choose from; empty if the machine's apply.
    pub fn usernames(&self) -> &[UserName] {
        &self.usernames
    }

    /// Whether it runs in place of whatever its members ask for.
    pub fn is_forced(&self) -> bool {
        self.forced
    }

    /// Whether the caller may add arguments.
    pub fn takes_arguments(&self) -> bool {
        self.args
    }
}

/// The words of a command line in one allocation, separated by NUL, which no word can contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(Box<str>);

impl Words {
    /// `words` must not be empty, and no word may contain a NUL.
    pub(crate) fn new(words: &[String]) -> Self {
        Words(words.join("\0").into())
    }

    pub(crate) fn one(word: &str) -> Self {
        Words(word.into())
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split('\0')
    }
}
