//! How much memory a program takes, as the kernel counts it.

use std::{fs, process::Output, time::Duration};

use tokio::{process::Child, time::sleep};

/// The most that a program and the programs that it starts had in memory at any time, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    pub own: u64,
    pub children: u64,
}

/// The most that a process has had in memory by now, in KiB; none if it is gone.
pub fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The processes that were started by this one.
fn children(pid: u32) -> Vec<u32> {
    let started = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|n| fs::read_to_string(format!("/proc/{n}/stat")).ok().and_then(|s| started(&s)) == Some(pid))
        .collect()
}

/// Waits for a program, and watches its memory. The kernel keeps the greatest amount, so that looking often is only needed
/// for the last moments.
pub async fn watched(child: Child) -> (Output, Peak) {
    let mut most = Peak::default();
    let pid = child.id();
    let mut ended = std::pin::pin!(child.wait_with_output());
    loop {
        tokio::select! {
            output = &mut ended => return (output.unwrap(), most),
            () = sleep(Duration::from_millis(20)) => {}
        }
        let Some(pid) = pid else { continue };
        most.own = most.own.max(peak(pid).unwrap_or_default());
        for child in children(pid) {
            most.children = most.children.max(peak(child).unwrap_or_default());
        }
    }
}
