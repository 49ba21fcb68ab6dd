//! The text of a configuration: whatever it says, it is taken or its problems are told, at places that it has, and no
//! secret of the environment is among what is told.

use onceway::config::{self, risks};

/// What every variable of the environment holds.
const SECRET: &str = "hunter2-hunter2";

pub(crate) fn bear(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A device that is named as a file could be read for ever, and what is typed may be told.
    if ["/dev", "/proc", "\\u", "\\x", "hunter2"].iter().any(|part| text.contains(part)) {
        return;
    }
    let read = config::parse("onceway.toml", text, &|_| Some(SECRET.to_owned()));
    match &read {
        Ok(config) => {
            assert!(!config.upstreams.is_empty());
            assert!(config.routes.iter().all(|route| route.upstream < config.upstreams.len()));
            assert!(!format!("{:?}", risks::risks(config)).contains("panic"));
        }
        Err(problems) => {
            assert!(problems.count() > 0);
            let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').collect();
            for place in problems.iter().filter_map(|problem| problem.place) {
                let line = lines.get(place.line - 1).unwrap_or_else(|| panic!("{problems}"));
                assert!((1..=line.chars().count() + 1).contains(&place.column), "{problems}");
            }
            let told = problems.to_string();
            assert!(!told.contains(SECRET), "{told}");
            assert!(!told.chars().any(|char| char.is_control() && char != '\n'), "{told:?}");
            assert_eq!(told.lines().count(), problems.count() + 1, "{told}");
        }
    }
    let again = config::parse("onceway.toml", text, &|_| Some(SECRET.to_owned()));
    let told = |read: &Result<config::Config, config::ConfigProblems>| match read {
        Ok(config) => format!("{config:?}"),
        Err(problems) => problems.to_string(),
    };
    assert_eq!(told(&read), told(&again));
}

#[test]
fn what_was_tried_as_a_configuration_is_taken_or_told() {
    super::try_each("configs", bear);
}
