//! `strace`, as the hand that kills a process at one of its system calls or lets one of them fail.
//!
//! It counts by thread and by name of the call, so a place is named the same way. A call at which the process is killed
//! is not made; the one before it was. Must not know what the process does.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::until;

/// One call among those that a thread makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) thread: String,
    pub(super) call: String,
    /// Which of this name, from one.
    pub(super) nth: usize,
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    Kill,
    /// The call is not made, and fails with this error.
    Fail(&'static str),
}

/// A running tracer. Its process is ended when it is dropped, and the traced one goes on.
pub(super) struct Tracer {
    child: Child,
    words: Option<JoinHandle<()>>,
    dir: TempDir,
}

/// Why the sweep cannot be made here, if it cannot: no strace, or a system that lets it attach to nobody.
pub(super) fn is_missing() -> Option<String> {
    let mut sleeper = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let attached = Tracer::attach(&["-p", &sleeper.id().to_string()]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    attached.err()
}

impl Tracer {
    /// Writes down every call of every thread of a process.
    pub(super) fn watching(pid: u32) -> Self {
        Self::attach(&["-ff", "-p", &pid.to_string()]).unwrap()
    }

    /// Does harm at `place`, in the thread of this number.
    pub(super) fn harming(thread: u32, place: &Place, harm: Harm) -> Self {
        let effect = match harm {
            Harm::Kill => "signal=KILL".to_owned(),
            Harm::Fail(error) => format!("error={error}"),
        };
        let (call, nth) = (&place.call, place.nth);
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:{effect}:when={nth}");
        Self::attach(&["-e", &trace, "-e", &inject, "-p", &thread.to_string()]).unwrap()
    }

    /// Answers when it is attached; or why it is not.
    fn attach(arguments: &[&str]) -> Result<Self, String> {
        let dir = TempDir::new().unwrap();
        let mut command = Command::new("strace");
        command.arg("-o").arg(dir.path().join("calls")).args(arguments);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("strace cannot be run: {error}"))?;
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("attached") {
            if words.read_line(&mut said).unwrap() == 0 {
                child.wait().unwrap();
                return Err(format!("strace cannot attach: {said}"));
            }
        }
        // Read on, or a talkative one would stop at a full pipe.
        let words = thread::spawn(move || for _ in words.lines() {});
        Ok(Self { child, words: Some(words), dir })
    }

    /// Lets go. Answers every file that was written.
    fn end(mut self) -> Vec<(String, String)> {
        self.stop();
        let files = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (suffix(&path), std::fs::read_to_string(&path).unwrap())).collect()
    }

    /// Lets go. Answers the places that were passed, thread by thread and in order; `name` tells a thread's name.
    pub(super) fn places(self, name: impl Fn(&str) -> Option<String>) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for (number, text) in self.end() {
            let Some(thread) = name(&number) else { continue };
            for call in text.lines().filter_map(call_of) {
                let before = places.iter().filter(|place| place.thread == thread && place.call == call);
                let nth = before.count() + 1;
                places.push(Place { thread: thread.clone(), call: call.to_owned(), nth });
            }
        }
        places
    }

    /// Lets go. Answers whether the harm was done.
    pub(super) fn has_struck(self) -> bool {
        let is_struck =
            |(_, text): &(String, String)| text.contains("killed by SIGKILL") || text.contains("(INJECTED)");
        self.end().iter().any(is_struck)
    }

    /// It ends by itself when nobody is left to be traced.
    fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, Signal::TERM).ok();
            until("strace ends", || self.child.try_wait().unwrap().is_some());
        }
        if let Some(words) = self.words.take() {
            words.join().unwrap();
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn suffix(path: &Path) -> String {
    path.extension().map(|number| number.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The name of the call that a line tells of, if it tells of one. One that was under way when the tracer came is told
/// as restarted, and cannot be met again by its name.
fn call_of(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && !name.is_empty() && name != "restart_syscall").then_some(name)
}

#[test]
fn a_line_of_a_trace_tells_its_call() {
    let told = [
        ("recvfrom(9, \"\", 8192, 0, NULL, NULL) = 0", Some("recvfrom")),
        ("restart_syscall(<... resuming interrupted read ...>) = 0", None),
        ("+++ killed by SIGKILL +++", None),
        ("--- SIGTERM {si_signo=SIGTERM, si_code=SI_USER} ---", None),
    ];
    for (line, call) in told {
        assert_eq!(call_of(line), call);
    }
}
