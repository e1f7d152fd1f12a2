//! A command entry: something that may be run by its name, by those its list names.

use crate::allow::AllowList;
use crate::name::{CommandName, UserName};

/// One `[machine.X.command.Y]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub(crate) name: CommandName,
    /// As written.
    pub(crate) line: Option<Box<str>>,
    pub(crate) words: Words,
    pub(crate) allow_from: Option<AllowList>,
    pub(crate) usernames: Box<[UserName]>,
    pub(crate) args: bool,
    pub(crate) forced: bool,
}

impl Command {
    /// The word by which it is asked for.
    pub fn name(&self) -> &CommandName {
        &self.name
    }

    /// What is run: at least one word; the name alone if nothing else is written.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter()
    }

    /// Its own list of who may run it, if it has one; otherwise the machine's counts.
    pub fn allow_from(&self) -> Option<&AllowList> {
        self.allow_from.as_ref()
    }

    /// Its own user, if it has one; otherwise the machine's counts.
    pub fn username(&self) -> Option<&UserName> {
        self.usernames.first()
    }

    /// The users that a caller may choose from; none are the machine's.
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

/// The words of a command line in one allocation, with a NUL between them: no word can hold one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(Box<str>);

impl Words {
    /// At least one word, none of them with a NUL in it.
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
