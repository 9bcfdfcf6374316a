//! What the kernel says of this process, read at each scrape. Names as Prometheus client libraries give them.

use std::{fs, time::SystemTime};

use crate::{Kind, Metrics, Sample, Value};

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, 100 on every Linux Rust runs on.
const TICKS: f64 = 100.0;

pub(crate) fn register(metrics: &Metrics) {
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let one = |value: Option<Value>| value.into_iter().map(|value| Sample { labels: Vec::new(), value }).collect();
    metrics.collect("process_start_time_seconds", "Start time since the Unix epoch", Kind::Gauge, move || {
        one(Some(Value::Fraction(started)))
    });
    metrics.collect("process_cpu_seconds", "User and system CPU time spent", Kind::Counter, move || {
        one(cpu_seconds(&fs::read_to_string("/proc/self/stat").unwrap_or_default()).map(Value::Fraction))
    });
    metrics.collect("process_resident_memory_bytes", "Resident memory size", Kind::Gauge, move || {
        one(resident_bytes(&fs::read_to_string("/proc/self/status").unwrap_or_default()).map(Value::Whole))
    });
    metrics.collect("process_open_fds", "Number of open file descriptors", Kind::Gauge, move || {
        let count = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        one(count.and_then(|n| u64::try_from(n).ok()).map(Value::Whole))
    });
}

/// Fields 14 and 15 of `/proc/self/stat`; the command before them may hold spaces. proc_pid_stat(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

/// `VmRSS` of `/proc/self/status`, given in KiB. proc_pid_status(5).
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!((cpu_seconds("rubbish"), resident_bytes("rubbish")), (None, None));
    }
}
