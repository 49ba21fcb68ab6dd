//! Path patterns in a tree, the most specific first: at each segment a literal one goes before `{name}`, and
//! that before `{*rest}`.
//!
//! Own code because matchit, the router of choice, refuses `{name}` beside `{*rest}` in one place, which the
//! contract allows. Must not know hosts or what a pattern stands for. Read `route.rs` after.

use std::collections::HashMap;

/// Patterns and what each stands for.
#[derive(Clone, Debug)]
pub(super) struct Patterns<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    literal: HashMap<Vec<u8>, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    rest: Vec<T>,
    here: Vec<T>,
}

impl<T> Patterns<T> {
    pub(super) fn new() -> Self {
        Self { root: Node::default() }
    }

    /// Adds a pattern. Where others of the same shape stand, they go before it: parameter names do not
    /// matter.
    pub(super) fn add(&mut self, pattern: &[u8], value: T) {
        let mut node = &mut self.root;
        for segment in segments(pattern) {
            if segment.starts_with(b"{*") {
                node.rest.push(value);
                return;
            }
            node = if segment.starts_with(b"{") {
                node.parameter.get_or_insert_default()
            } else {
                node.literal.entry(segment.to_owned()).or_default()
            };
        }
        node.here.push(value);
    }

    /// What the most specific pattern stands for that matches `path` and `accepts` it.
    pub(super) fn find(&self, path: &[u8], accepts: impl Fn(&T) -> bool) -> Option<&T> {
        path.starts_with(b"/").then(|| self.root.find(segments(path), &accepts))?
    }
}

impl<T> Node<T> {
    fn find<'p, 'n, S>(&'n self, mut left: S, accepts: &impl Fn(&T) -> bool) -> Option<&'n T>
    where
        S: Iterator<Item = &'p [u8]> + Clone,
    {
        let first = |values: &'n [T]| values.iter().find(|value| accepts(value));
        let Some(segment) = left.next() else { return first(&self.here).or_else(|| first(&self.rest)) };
        let deeper = |node: &'n Self| node.find(left.clone(), accepts);
        let literal = self.literal.get(segment).and_then(deeper);
        let parameter = || self.parameter.as_deref().filter(|_| !segment.is_empty()).and_then(deeper);
        literal.or_else(parameter).or_else(|| first(&self.rest))
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literal: HashMap::new(), parameter: None, rest: Vec::new(), here: Vec::new() }
    }
}

/// The segments of a path; the root has one, which is empty.
pub(super) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/')
}
