//! Finding and killing a node's processes by what the kernel says of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// All live processes with exactly this word on their command line.
pub fn with_argument(word: &Path) -> Vec<u32> {
    let word = word.as_os_str().as_encoded_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        *pid != std::process::id()
            && fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).any(|argument| argument == word))
            && alive(*pid)
    })
    .collect()
}

/// Whether a process runs. A zombie does not, though a signal still reaches it.
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name in parentheses may itself hold parentheses and spaces.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X' | 'x'))
}

/// Whether a process is PID 1 of a process namespace directly inside ours.
pub fn is_init(pid: u32) -> bool {
    let depth = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?.to_string();
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        Some((numbers.len(), numbers.last().copied()?))
    };
    match (depth("self"), depth(&pid.to_string())) {
        (Some((ours, _)), Some((theirs, last))) => theirs == ours + 1 && last == 1,
        _ => false,
    }
}

/// Kills processes at once.
pub fn kill(pids: &[u32]) {
    for pid in pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Waits until none of the processes runs; false if some still do after `patience`.
pub fn gone(pids: &[u32], patience: Duration) -> bool {
    let began = Instant::now();
    loop {
        // Only our own children can be reaped; for others this does nothing.
        for pid in pids {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        if !pids.iter().any(|pid| alive(*pid)) {
            return true;
        }
        if began.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while alive(child.id()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
        assert!(!alive(child.id()));
        child.wait().unwrap();
    }

    #[test]
    fn found_by_argument() {
        let word = Path::new("windlass-lab-test-argument");
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 30; :"]).arg(word).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while with_argument(word).is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(with_argument(word).contains(&child.id()));
        assert!(!is_init(child.id()));
        kill(&[child.id()]);
        assert!(gone(&[child.id()], Duration::from_secs(10)));
        let _ = child.wait();
    }
}
