//! Running other people's programs: whether they are there, what they say, and that they end.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;

/// What a program said, and how it ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// `None`: it was killed, by us if it did not end in time.
    pub(super) code: Option<i32>,
    pub(super) text: String,
}

/// Whether a program can be started.
pub(super) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a program in `dir` for no longer than `limit`. What it says on both streams is kept.
pub(super) fn run(program: &str, arguments: &[&str], dir: &Path, limit: Duration) -> Result<Said, Failure> {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("start {program}: {error}"))?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let output = thread::spawn(move || text_of(&mut out));
    let errors = thread::spawn(move || text_of(&mut err));
    let code = ended_within(&mut child, limit)?;
    let output = output.join().unwrap_or_default();
    Ok(Said { code, text: output + &errors.join().unwrap_or_default() })
}

fn text_of(stream: &mut Option<impl std::io::Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        drop(stream.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ended_within(child: &mut Child, limit: Duration) -> Result<Option<i32>, Failure> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
