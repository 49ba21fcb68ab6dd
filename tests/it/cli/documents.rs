//! Documents that are made from what the program knows: the schema, the page of keys, the page of commands.
//!
//! `ONCEWAY_WRITE=1 cargo test --test it cli::documents` makes them anew.

use std::path::Path;

use onceway::{cli, config};

/// Compares a file of the repository with what it is made from.
fn is_fresh(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("ONCEWAY_WRITE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stands == text,
        "{file} is stale: ONCEWAY_WRITE=1 cargo test --test it cli::documents makes it anew"
    );
}

#[test]
fn the_schema_in_the_repository_is_the_one_that_is_printed() {
    let printed = super::typed(&["schema"]);
    assert_eq!(printed.code, Some(0));
    is_fresh("config/onceway.schema.json", &printed.out);
}

#[test]
fn the_page_of_keys_is_made_from_the_table_of_keys() {
    is_fresh("docs/configuration.md", &config::reference::markdown());
}

#[test]
fn the_page_of_commands_is_made_from_the_command_line() {
    is_fresh("docs/commands.md", &cli::reference::markdown());
}
