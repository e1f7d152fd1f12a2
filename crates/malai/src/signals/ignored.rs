//! Signals that this command line's starter had ignored: they stay ignored, as with ssh. nohup and shells without job control
//! rely on it.

/// The ignored signals, from the kernel: bit n − 1 for signal n. Empty if the kernel does not show them.
#[derive(Debug, Clone, Copy)]
pub struct Ignored(u64);

impl Ignored {
    /// Those of this process, before it catches any.
    pub fn at_start() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        Self(mask.unwrap_or(0))
    }

    /// Whether this signal is ignored.
    pub fn contains(self, signal: i32) -> bool {
        (1..=64).contains(&signal) && self.0 >> (signal - 1) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::Ignored;

    #[test]
    fn the_kernels_mask_is_read_by_signal_number() {
        let ignored = Ignored(0b101);
        assert!(ignored.contains(1) && !ignored.contains(2) && ignored.contains(3));
        assert!(!ignored.contains(0) && !ignored.contains(65));
        // The runtime ignores SIGPIPE in every Rust program.
        assert!(Ignored::at_start().contains(signal_hook::consts::SIGPIPE));
    }
}
