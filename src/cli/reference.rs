//! Every command as a page for people, in Markdown, made from the command line itself.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use super::Cli;

const OPENING: &str = "\
# Commands

<!-- Made from the command line in src/cli/. A test says how to make it anew. -->

`onceway COMMAND --help` says the same. `onceway man` makes manual pages of it, `onceway completions` teaches it to a
shell.

Exit codes: 0 fine, 1 failed while running, 2 wrong usage or configuration. What was asked for is written to standard
output; questions, problems and what to do about them are written to standard error.
";

/// What is told of one command beside what it can be told.
const REMARKS: [(&str, &str); 2] = [("onceway keys", KEYS), ("onceway probe", PROBE)];

const PROBE: &str = "\
Ends with 0 where the gateway answers that it is well, with 1 where it says otherwise or nothing within 3 seconds, with 2
where the arguments or the file are wrong. With `--config` the listener must show the very certificate that stands in the
file: a certificate that was renewed is to be taken by a reload at once. A file that cannot be read is told as such, though
the gateway goes on by what it read before; `--admin` does without the file.
";

const KEYS: &str = "\
Where the gateway is: `--admin` is taken first, then `admin.listen` of the file named by `--config`, then
`ONCEWAY_ADMIN`, then `http://127.0.0.1:8081`. The gateway serves operators on loopback, or to those who show a
certificate that `admin.tls_client_ca_file` vouches for. With `--config` the gateway must show the very certificate that
stands in its file; else somebody must vouch for it: whom `--ca` names, or whom the system trusts. A token or a key goes
over TLS or stays on this machine; anything else is refused before it is sent.

Changes need the token of `admin.token_file`: `--token-file`, else the file's, else `ONCEWAY_ADMIN_TOKEN_FILE`. Every
change is guarded by the attempt that you have seen: name it with `--attempt` (its first eight digits will do), or, on a
terminal, leave it out, look at what is shown and say yes. If no answer to a change comes back, it is said that nobody
knows whether it was made; look before you repeat it. Every change stands in the gateway's audit log with its reason.

A key or a credential need not stand on the command line, where the shell's history keeps it: `-` reads it from standard
input, `@FILE` from a file; a line break at the end is no part of it.

With `--json` each command prints one document, which keeps its members from version to version:

| command | document |
|---|---|
| `list` | `{\"operations\": [OPERATION…], \"next\": CURSOR or null, \"looked_through\": NUMBER}` |
| `show REF` | `OPERATION` |
| `show --key KEY` | `{\"found\": [{\"ref\", \"operation\": OPERATION or null, \"derivation\": \"current\" or \"previous\"}…]}` |
| `resolve` | `{\"operation\": OPERATION or null}` |
| `forget` | `{\"forgotten\": REF}` |

`OPERATION` is that of the API (`GET /v1/openapi.json` describes it): `ref`, `state`, `reason`, `route`, `attempt`,
`attempts`, `session`, `opened_at`, `settled_at`, `expires_at`, `status`, `body_bytes`. `show` ends with 1 where no record
stands.
";

/// The page.
pub fn markdown() -> String {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut page = OPENING.to_owned();
    for command in root.get_subcommands_mut() {
        section(&mut page, command, "onceway", 2);
    }
    page
}

fn section(page: &mut String, command: &mut Command, parent: &str, depth: usize) {
    let path = format!("{parent} {}", command.get_name());
    // Writing to a String does not fail.
    let _ok = write!(page, "\n{} `{path}`\n", "#".repeat(depth));
    if let Some((_, remark)) = REMARKS.iter().find(|(of, _)| *of == path) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ok = write!(page, "\n{about}.\n\n{remark}");
    }
    let is_group = command.has_subcommands();
    if !is_group {
        let help = command.clone().term_width(100).render_help().to_string();
        let _ok = write!(page, "\n```text\n{}\n```\n", help.trim_end());
    }
    for command in command.get_subcommands_mut() {
        section(page, command, &path, depth + 1);
    }
}
