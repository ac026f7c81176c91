//! What the kernel says about this process, under the names that Prometheus clients use.

use std::fs;

/// Clock ticks per second in `/proc`; the kernel shows this number to programs on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading. What cannot be read is left out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) start_time_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) open_files_max: Option<u64>,
}

impl Process {
    /// Reads `/proc/self`.
    pub(super) fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let open_files = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self {
            // The listing itself has one open.
            open_files: open_files.and_then(|count| u64::try_from(count.saturating_sub(1)).ok()),
            ..Self::parse(
                &read("/proc/self/stat"),
                &read("/proc/self/status"),
                &read("/proc/self/limits"),
                &read("/proc/stat"),
            )
        }
    }

    fn parse(stat: &str, status: &str, limits: &str, machine: &str) -> Self {
        // Fields of proc(5) from the third on; the second is a name, which may hold spaces and brackets.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |number: usize| -> Option<f64> {
            let text = after_name.split_whitespace().nth(number.checked_sub(3)?)?;
            text.parse().ok()
        };
        let kib = |name: &str| after(status, name)?.parse::<u64>().ok()?.checked_mul(1_024);
        let booted: Option<f64> = after(machine, "btime").and_then(|text| text.parse().ok());
        Self {
            cpu_seconds: field(14)
                .zip(field(15))
                .map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            start_time_seconds: booted
                .zip(field(22))
                .map(|(booted, started)| booted + started / TICKS_PER_SECOND),
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            open_files: None,
            open_files_max: after(limits, "Max open files").and_then(|text| text.parse().ok()),
        }
    }
}

/// The first word after `name` on the line that begins with it.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 1000 9 9 9";
        let status = "Name:\ta b) c\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\n";
        let limits = "Limit    Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        let process = Process::parse(stat, status, limits, "cpu 1 2\nbtime 1700000000\n");
        let expected = Process {
            cpu_seconds: Some(2.0),
            start_time_seconds: Some(1_700_000_010.0),
            resident_bytes: Some(512 << 10),
            virtual_bytes: Some(2 << 20),
            open_files: None,
            open_files_max: Some(1_024),
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", "", ""), Process::default());
    }

    #[test]
    fn this_process_can_be_read() {
        let process = Process::read();
        assert!(
            process.resident_bytes.is_some_and(|bytes| bytes > 0),
            "{process:?}"
        );
        assert!(process.open_files.is_some_and(|count| count > 0), "{process:?}");
        assert!(process.cpu_seconds.is_some() && process.start_time_seconds.is_some());
    }
}
