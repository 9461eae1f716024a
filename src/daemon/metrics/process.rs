//! Metrics of the process: memory, processor time, files, version.

use std::fmt;
use std::fs;

use jiff::Timestamp;
use prometheus_client::registry::Unit;

use super::families::{NONE, Writer};
use crate::control::admin::successor::TakeOvers;
use crate::sys::process::{cpu_time, open_files_limit};

/// Writes the families that all programs have, with the names that Prometheus' own libraries give them.
pub(super) fn write(started: Timestamp, writer: &mut Writer<'_>) -> fmt::Result {
    writer.counters(
        "process_cpu",
        "Processor time of all threads, in user mode and in the kernel.",
        Some(Unit::Seconds),
        [(NONE, cpu_time().as_secs_f64())],
    )?;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let sizes = [
        ("process_resident_memory", "VmRSS:", "Memory in use."),
        ("process_virtual_memory", "VmSize:", "Address space in use."),
    ];
    for (name, key, help) in sizes {
        let bytes = bytes(&status, key).map(|bytes| (NONE, bytes));
        writer.gauges(name, help, Some(Unit::Bytes), bytes)?;
    }
    let open = fs::read_dir("/proc/self/fd").ok();
    // One of them is that of the directory itself.
    let open = open.map(|files| (NONE, files.count().saturating_sub(1) as f64));
    writer.gauges("process_open_fds", "Open files and sockets.", None, open)?;
    writer.gauge(
        "process_max_fds",
        "The limit of open files and sockets.",
        open_files_limit() as f64,
    )?;
    writer.gauges(
        "process_start_time",
        "When the process started, since the epoch.",
        Some(Unit::Seconds),
        [(NONE, started.as_millisecond() as f64 / 1e3)],
    )
}

/// Writes the version.
pub(super) fn write_build(writer: &mut Writer<'_>) -> fmt::Result {
    let labels = [("version", env!("CARGO_PKG_VERSION"))];
    writer.info("build", "The version of the program.", labels)
}

/// Writes the results of take-overs.
pub(super) fn write_take_overs(take_overs: &TakeOvers, writer: &mut Writer<'_>) -> fmt::Result {
    let counts = take_overs.read();
    writer.counters(
        "take_overs",
        "Take-overs by this process, and those by others that failed or were refused.",
        None,
        counts.map(|(result, count)| ([("result", result)], count)),
    )
}

/// A size in the system's description of a process (proc_pid_status(5)).
fn bytes(status: &str, key: &str) -> Option<f64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_the_systems_table() {
        let status = "Name:\ttapis\nVmSize:\t  20480 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(1_048_576.0));
        assert_eq!(bytes(status, "VmSwap:"), None);
    }
}
