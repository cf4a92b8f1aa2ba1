//! What a person sees while components are built.

use std::fmt;
use std::time::{Duration, Instant};

use super::Component;
use super::cache::Flaw;

/// Something to tell whoever waits for components. [`fmt::Display`] gives a line for a terminal.
#[derive(Debug, Clone)]
pub enum Progress<'a> {
    /// The cache is being looked through.
    Checking {
        /// How many programs are wanted.
        count: usize,
    },
    /// An entry of the cache does not work and is made again.
    Broken {
        /// The program concerned.
        component: Component,
        /// What is wrong with it.
        flaw: &'a Flaw,
    },
    /// Another process builds the same program; we wait for it.
    Waiting {
        /// The program concerned.
        component: Component,
    },
    /// A program is being built; told at the start and again every 15 seconds.
    Building {
        /// The program concerned.
        component: Component,
        /// The how-manieth of all that must be built, from 1.
        position: usize,
        /// The names of all that must be built, in order.
        of: &'a [&'static str],
        /// How long it has taken so far.
        elapsed: Duration,
    },
    /// A program was built and works.
    Built {
        /// The program concerned.
        component: Component,
        /// How long it took.
        took: Duration,
    },
}

impl fmt::Display for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checking { count } => write!(f, "looking for {count} components in the cache"),
            Self::Broken { component, flaw } => write!(f, "{component}: {flaw}; building it again"),
            Self::Waiting { component } => write!(f, "{component}: another process is building it; waiting"),
            Self::Building { component, position, of, elapsed } => {
                let usual = component.typical_build().as_secs();
                write!(f, "{component} ({position} of {}): building", of.len())?;
                if elapsed.as_secs() > 0 {
                    write!(f, " for {} s", elapsed.as_secs())?;
                }
                write!(f, ", usually {usual} s")?;
                match of.get(*position..) {
                    None | Some([]) => Ok(()),
                    Some(rest) => write!(f, "; then: {}", rest.join(", ")),
                }
            }
            Self::Built { component, took } => write!(f, "{component}: built in {:.0} s", took.as_secs_f32()),
        }
    }
}

/// The place of one build among those of a call.
pub(super) struct Step<'a> {
    pub(super) component: Component,
    /// From 1.
    pub(super) position: usize,
    /// The names of all that must be built.
    pub(super) of: &'a [&'static str],
    pub(super) started: Instant,
}

impl Step<'_> {
    /// The event for "still at it".
    pub(super) fn building(&self) -> Progress<'_> {
        let Self { component, position, of, started } = *self;
        Progress::Building { component, position, of, elapsed: started.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_build_says_how_long_and_what_comes_next() {
        let of = ["kube-apiserver", "kubectl", "etcd"];
        let line = |position, component, seconds| {
            Progress::Building { component, position, of: &of, elapsed: Duration::from_secs(seconds) }.to_string()
        };
        assert_eq!(
            line(1, Component::KubeApiserver, 45),
            "kube-apiserver (1 of 3): building for 45 s, usually 230 s; then: kubectl, etcd"
        );
        assert_eq!(line(3, Component::Etcd, 0), "etcd (3 of 3): building, usually 30 s");
    }
}
