//! The resources of a process, as counted by the kernel, for tests of leaks and bounds.

use std::fs;

use crate::harness::{Home, until};

/// The resources that a daemon holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub descriptors: usize,
    pub threads: usize,
    pub tasks: u64,
    pub children: usize,
}

impl Held {
    /// What the daemon of a home holds now. An idle thread ends by itself, so it is not a leak.
    pub fn by(home: &Home) -> Held {
        let pid = home.pid();
        let status = home.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
        Held {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            threads: fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(),
            tasks: status["daemon"]["tasks"]
                .as_u64()
                .expect("a count of tasks"),
            children: children(pid).len(),
        }
    }

    /// Waits until the daemon holds no more than this.
    #[track_caller]
    pub fn is_all_of(self, home: &Home) {
        let mut now = self;
        let what = format!("{} to hold no more than {self:?}", home.path.display());
        until(&what, || {
            now = Held::by(home);
            now.descriptors <= self.descriptors
                && now.threads <= self.threads
                && now.tasks <= self.tasks
                && now.children <= self.children
        });
    }
}

/// The processes that a process has started but not waited for.
pub fn children(pid: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1));
            parent == Some(&pid.to_string())
        })
        .collect()
}

/// The processes whose environment has this entry, `NAME=value`; ended processes have none.
pub fn marked(entry: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    all.filter_map(|found| found.unwrap().file_name().to_str()?.parse().ok())
        .filter(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let mut entries = environment.split(|byte| *byte == 0);
            entries.any(|found| found == entry.as_bytes())
        })
        .collect()
}

/// A line of `/proc/<pid>/status`, such as `VmRSS` or `VmHWM`, in bytes.
pub fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = status.lines().find_map(|found| found.strip_prefix(line));
    let kilobytes = found.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']);
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// The bytes that a process has written so far, to any file.
pub fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let found = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    found.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// A command that sleeps for a time that only this test uses.
pub fn hang() -> String {
    format!("sleep 3{:09}", std::process::id())
}

/// Asserts that no hanging command is left where it ran.
#[track_caller]
pub fn nothing_hangs() {
    let wanted = format!("{}\0", hang().replace(' ', "\0")).into_bytes();
    until("the end of what hung", || {
        let all = std::fs::read_dir("/proc").unwrap();
        let line = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read(entry.ok()?.path().join("cmdline")).ok()
        };
        !all.filter_map(line).any(|line| line == wanted)
    });
}

/// The peak resident memory of a process since [`reset_highest`], in bytes.
pub fn highest(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().unwrap() << 10
}

/// Restarts the measurement of a process's peak memory; see proc(5).
pub fn reset_highest(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}
