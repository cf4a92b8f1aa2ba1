//! P9 and P7: what only a kubelet with containerd shows.

mod memory;
mod runner_image;
