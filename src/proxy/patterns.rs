//! Path patterns in a tree, the most specific first: at each segment a literal one goes before `{name}`, and
//! that before `{*rest}`.
//!
//! Own code because matchit, the router of choice, refuses `{name}` beside `{*rest}` in one place, which the
//! contract allows. Must not know hosts or what a pattern stands for. Read `route.rs` after.

use std::collections::HashMap;
use std::str::Split;

/// Patterns and what each stands for.
#[derive(Clone, Debug)]
pub(super) struct Patterns<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    literal: HashMap<String, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    rest: Option<T>,
    here: Option<T>,
}

impl<T: Copy> Patterns<T> {
    pub(super) fn new() -> Self {
        Self { root: Node::default() }
    }

    /// Adds a pattern, unless one of the same shape stands there: parameter names do not matter.
    pub(super) fn add(&mut self, pattern: &str, value: T) {
        let mut node = &mut self.root;
        for segment in segments(pattern) {
            if segment.starts_with("{*") {
                node.rest.get_or_insert(value);
                return;
            }
            node = if segment.starts_with('{') {
                node.parameter.get_or_insert_default()
            } else {
                node.literal.entry(segment.to_owned()).or_default()
            };
        }
        node.here.get_or_insert(value);
    }

    /// What the most specific pattern that matches `path` stands for.
    pub(super) fn find(&self, path: &str) -> Option<T> {
        path.starts_with('/').then(|| self.root.find(segments(path)))?
    }
}

impl<T: Copy> Node<T> {
    fn find(&self, mut left: Split<'_, char>) -> Option<T> {
        let Some(segment) = left.next() else { return self.here.or(self.rest) };
        let deeper = |node: &Self| node.find(left.clone());
        let literal = self.literal.get(segment).and_then(deeper);
        let parameter = || self.parameter.as_deref().filter(|_| !segment.is_empty()).and_then(deeper);
        literal.or_else(parameter).or(self.rest)
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literal: HashMap::new(), parameter: None, rest: None, here: None }
    }
}

/// The segments of a path; the root has one, which is empty.
fn segments(path: &str) -> Split<'_, char> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}
