//! How the program is linked: with its unwinder inside, where the compiler has that as an archive.
//!
//! A shared library less to find, map and relocate is 0.1 ms less at every start (bench/README.md). Elsewhere, and
//! where the archive is not found, the program is linked as always.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is_gnu = env::var("TARGET").is_ok_and(|target| target.ends_with("-linux-gnu"));
    if !is_gnu || env::var("HOST") != env::var("TARGET") {
        return;
    }
    let (Some(archive), Some(folder)) = (unwinder(), env::var_os("OUT_DIR")) else {
        return;
    };
    // Another compiler has another one.
    println!("cargo:rerun-if-changed={}", archive.display());
    // What rustc asks for is the shared library; the first file of that name is this list of what to link instead.
    let list = Path::new(&folder).join("libgcc_s.so");
    if fs::write(list, format!("INPUT(\"{}\")\n", archive.display())).is_ok() {
        println!(
            "cargo:rustc-link-search=native={}",
            PathBuf::from(folder).display()
        );
    }
}

/// The archive, as the linker's driver finds it. (It prints the bare name of what it does not find.)
fn unwinder() -> Option<PathBuf> {
    let said = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
    path.is_absolute().then_some(path)
}
