//! `strace`, as the counter of the system calls that a process makes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::Failure;

/// Left out of the sum, because they are made as often as one thread happens to be faster than another: the first two by
/// threads that wait for each other, the third to wake one or by the log's, which writes the lines that it finds.
/// The last is made only where the kernel cannot tell the time without being called.
const BY_CHANCE: [&str; 4] = ["futex", "sched_yield", "write", "clock_gettime"];

/// A running tracer of all threads of a process. When it is dropped its own process is ended, and the traced one
/// goes on.
pub(super) struct Tracer {
    child: Child,
    words: Option<JoinHandle<()>>,
    table: PathBuf,
}

/// How often each system call was made, the most frequent first.
#[derive(Clone, Default)]
pub(super) struct Calls(pub(super) Vec<(String, u64)>);

impl Tracer {
    /// Answers when it is attached. `table` is the file that it writes at its end.
    pub(super) fn attach(pid: u32, table: &Path) -> Result<Self, Failure> {
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-p", &pid.to_string(), "-o"]).arg(table);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("run strace: {error}"))?;
        let words = child.stderr.take().map(BufReader::new);
        let mut tracer = Self { child, words: None, table: table.to_owned() };
        let mut words = words.ok_or("strace has no standard error")?;
        let mut said = String::new();
        while !said.contains("attached") {
            if words.read_line(&mut said)? == 0 {
                return Err(format!("strace cannot attach: {said}").into());
            }
        }
        // Read on, or a talkative one would stop at a full pipe.
        tracer.words = Some(thread::spawn(move || for _ in words.lines() {}));
        Ok(tracer)
    }

    /// Lets go, and answers what was counted.
    pub(super) fn end(mut self) -> Result<Calls, Failure> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.child.wait()?;
        if let Some(words) = self.words.take() {
            drop(words.join());
        }
        Calls::parse(&fs::read_to_string(&self.table)?)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended by itself as a rule.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Calls {
    /// Reads lines such as `32.18  0.001  1  1501  2 recvfrom`, in which the number of errors may be missing.
    fn parse(table: &str) -> Result<Self, Failure> {
        let mut calls = Vec::new();
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(number), Some(name)) = (words.get(3), words.last()) else { continue };
            if let Ok(number) = number.parse::<u64>()
                && *name != "total"
            {
                calls.push(((*name).to_owned(), number));
            }
        }
        if calls.is_empty() {
            return Err(format!("strace counted nothing:\n{table}").into());
        }
        calls.sort_by(|(_, one), (_, other)| other.cmp(one));
        Ok(Self(calls))
    }

    /// Of all but those made by chance, and those named `beside`.
    pub(super) fn sum(&self, beside: &[&str]) -> u64 {
        let is_meant = |name: &str| !BY_CHANCE.contains(&name) && !beside.contains(&name);
        let meant = self.0.iter().filter(|(name, _)| is_meant(name));
        meant.map(|(_, number)| number).sum()
    }
}
