//! Commands as people type them: the real binary, what it reads, writes and ends with.

mod changes;
mod documents;
mod keys;
mod keys_tls;
mod operator;
mod papers;
mod probe;
mod schema;

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a command ended with and wrote.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Types a command.
fn typed(arguments: &[&str]) -> Ended {
    typed_with(arguments, &[], "")
}

/// Types a command, with variables of the environment and text on its standard input.
fn typed_with(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Ended {
    let mut process = Command::new(env!("CARGO_BIN_EXE_onceway"))
        .args(arguments)
        .env_remove("ONCEWAY_ADMIN")
        .env_remove("ONCEWAY_ADMIN_TOKEN_FILE")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that ends without reading has closed it.
    drop(process.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
