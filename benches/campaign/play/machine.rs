//! One process in one place: it can be started, killed, ended, stopped and slowed, and knows what was done to it.
//!
//! Must not know what the process is.

use std::fs::{self, File, OpenOptions};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::ground::Place;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What has not ended by then is killed.
const LOOKS_AT_THE_END: u32 = 400;

/// Gives the command that becomes the process, in one way or the other.
type Make = Box<dyn Fn(&Place, bool) -> Command + Send>;

/// A process, or the lack of one.
pub(crate) struct Machine {
    pub(crate) place: Place,
    make: Make,
    /// Whether it is started in its other way.
    pub(crate) is_altered: bool,
    child: Option<Child>,
    /// By which it ends for good, and takes with it what it keeps outside of its place.
    last_signal: Signal,
}

impl Machine {
    /// A process not started yet.
    pub(crate) fn new(place: Place, make: impl Fn(&Place, bool) -> Command + Send + 'static) -> Self {
        Self { place, make: Box::new(make), is_altered: false, child: None, last_signal: Signal::KILL }
    }

    /// For one that leaves something behind when it is killed.
    pub(crate) fn ended_for_good_by(mut self, last_signal: Signal) -> Self {
        self.last_signal = last_signal;
        self
    }

    /// Starts it if it does not run.
    pub(crate) fn start(&mut self) {
        if self.is_alive() {
            return;
        }
        let log = self.log();
        let mut command = (self.make)(&self.place, self.is_altered);
        command.stdout(log.try_clone().unwrap()).stderr(Stdio::from(log));
        self.child = Some(command.spawn().unwrap());
    }

    /// As a crash does. Waits until nothing is left of it, or of what it has started.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let all = with_children(&child);
            send(&all, Signal::KILL);
            child.kill().ok();
            child.wait().unwrap();
            for pid in all {
                while is_running(pid) {
                    thread::sleep(LOOK_EVERY);
                }
            }
        }
    }

    /// Asks it to end. [`Machine::is_alive`] tells when it has.
    pub(crate) fn end(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), signal).ok();
        }
    }

    pub(crate) fn freeze(&mut self) {
        if let Some(child) = &self.child {
            send(&with_children(child), Signal::STOP);
        }
    }

    pub(crate) fn thaw(&mut self) {
        if let Some(child) = &self.child {
            send(&with_children(child), Signal::CONT);
        }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Where it tells what happens to it; not on the disk that may be full.
    fn log(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.place.beside("log")).unwrap()
    }
}

/// The process and what it has started, as far as that lives now.
fn with_children(child: &Child) -> Vec<Pid> {
    let own = child.id();
    let told = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    let children = told.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    [Pid::from_child(child)].into_iter().chain(children).collect()
}

/// One of them may end between the look and the signal.
fn send(processes: &[Pid], signal: Signal) {
    for process in processes {
        kill_process(*process, signal).ok();
    }
}

/// Whether it is more than a name in the table of processes.
fn is_running(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with(['Z', 'X']))
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.thaw();
        self.end(self.last_signal);
        for _ in 0..LOOKS_AT_THE_END {
            if !self.is_alive() {
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        self.kill();
    }
}
