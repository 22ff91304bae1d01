//! What the kernel says of processes: CPU and memory.

use std::fs;

use anyhow::Result;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

/// The process and all below it.
pub fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        for task in tasks(pid) {
            let path = format!("/proc/{pid}/task/{task}/children");
            let children = fs::read_to_string(path).unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|c| c.parse::<u32>().ok()),
            );
        }
    }
    all
}

/// Seconds that processes have run, by the scheduler's count in nanoseconds.
pub fn cpu(pids: &[u32]) -> f64 {
    let mut nanos = 0_u64;
    for pid in pids {
        for task in tasks(*pid) {
            let path = format!("/proc/{pid}/task/{task}/schedstat");
            let text = fs::read_to_string(path).unwrap_or_default();
            let ran = text.split_whitespace().next();
            nanos += ran.and_then(|ran| ran.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    nanos as f64 / 1e9
}

/// Bytes of memory of processes, shared pages in equal parts (PSS).
pub fn memory(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| memory_of(*pid)).sum()
}

fn memory_of(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Open files and sockets of processes.
pub fn files(pids: &[u32]) -> usize {
    let of = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    pids.iter().map(of).sum()
}

/// Has this process run on one core, all its threads, and what it starts from now on.
pub fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    for task in tasks(std::process::id()) {
        sched_setaffinity(Pid::from_raw(task.try_into()?), &cores)?;
    }
    Ok(())
}

/// Seconds that this process has run.
pub fn own_cpu() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// What the machine is.
pub fn machine() -> serde_json::Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    serde_json::json!({
        "cpu": model.map_or("", |(_, model)| model),
        "cores": cores,
        "kernel": kernel.trim(),
    })
}

/// The commit that is checked out, and whether something has changed since.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output();
        let output = output.ok().filter(|output| output.status.success());
        output.map_or_else(String::new, |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
    };
    let id = git(&["rev-parse", "--short", "HEAD"]);
    let is_changed = !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty();
    if is_changed { id + " and changes" } else { id }
}

fn tasks(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}
