//! What a process and the machine have used, as the kernel counts it. proc(5).

use std::{fs, time::Duration};

use anyhow::Context;

/// Length of a tick of `/proc/*/stat`: `sysconf(_SC_CLK_TCK)` is 100 wherever Linux runs today.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a process so far, all its threads together, those that ended too.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let after = text.rsplit(") ").next().unwrap_or_default();
    let field = |at: usize| after.split(' ').nth(at).and_then(|word| word.parse::<u32>().ok()).context("stat");
    Ok(TICK * (field(11)? + field(12)?))
}

/// Processor time of the whole machine so far, without idling.
pub(crate) fn cpu_of_all() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user, nice, system; after idle and iowait: irq, softirq.
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    Ok(Duration::from_millis(busy.saturating_mul(10)))
}

/// A field of `/proc/PID/status` in KiB: `VmRSS`, `VmHWM`.
pub(crate) fn kib_of(pid: u32, field: &str) -> anyhow::Result<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).with_context(|| format!("{field} of {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something_and_the_machine_no_less() {
        let own = std::process::id();
        let start = std::time::Instant::now();
        while cpu_of(own).unwrap() < TICK * 3 {
            assert!(start.elapsed() < Duration::from_secs(30), "spinning uses time");
        }
        assert!(cpu_of_all().unwrap() >= cpu_of(own).unwrap());
        assert!(kib_of(own, "VmRSS").unwrap() <= kib_of(own, "VmHWM").unwrap());
        assert!(kib_of(own, "VmNone").is_err());
    }
}
