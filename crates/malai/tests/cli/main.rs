//! The real binary on homes of its own: standard output, standard error and exit code in one picture.

mod check;
mod init;
mod status;
mod why;
mod world;
