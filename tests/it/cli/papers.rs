//! Completions and manual pages.

use std::process::Command;

use tempfile::TempDir;

use super::typed;

#[test]
fn every_shell_gets_completions_that_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = typed(&["completions", shell]);
        assert_eq!((ended.code, &*ended.err), (Some(0), ""), "{shell}");
        for word in ["migrate", "resolve", "token-file"] {
            assert!(ended.out.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(typed(&["completions", "tcsh"]).code, Some(2));
}

#[test]
fn bash_takes_the_completions_and_completes_a_command() {
    let script = typed(&["completions", "bash"]).out;
    let asked =
        "COMP_WORDS=(onceway keys re); COMP_CWORD=2; _onceway onceway re keys; echo \"${COMPREPLY[*]}\"";
    let Ok(output) = Command::new("bash").args(["-c", &format!("{script}\n{asked}")]).output() else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "resolve", "{output:?}");
}

#[test]
fn the_manual_has_a_page_for_every_command() {
    let directory = TempDir::new().unwrap();
    let ended = typed(&["man", "--dir", directory.path().to_str().unwrap()]);
    assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    for page in ["onceway", "onceway-serve", "onceway-keys-resolve", "onceway-store-migrate", "onceway-man"] {
        let text = std::fs::read_to_string(directory.path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(typed(&["man"]).out.contains(".SH SUBCOMMANDS"));
}

#[test]
fn a_manual_without_a_place_to_write_it_ends_with_1() {
    let ended = typed(&["man", "--dir", "no/such"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.starts_with("onceway failed to write the manual: "), "{ended:?}");
}
