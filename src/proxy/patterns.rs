//! Path patterns in a tree, the most specific first: at each segment a literal one goes before `{name}`, and
//! that before `{*rest}`.
//!
//! Own code because matchit, the router of choice, refuses `{name}` beside `{*rest}` in one place, which the
//! contract allows. A pattern may be one owner's or common to all; of two of one shape an owner's goes first. All stand
//! in one tree, so that thousands of owners do not each have a copy of what is common. Must not know who owns, nor what
//! a pattern stands for. Read `route.rs` after.

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
    rest: Values<T>,
    here: Values<T>,
}

/// What patterns of one shape stand for.
#[derive(Clone, Debug)]
struct Values<T> {
    owned: HashMap<Owner, Vec<T>>,
    common: Vec<T>,
}

/// Whose a pattern is.
pub(super) type Owner = usize;

impl<T> Patterns<T> {
    pub(super) fn new() -> Self {
        Self { root: Node::default() }
    }

    /// Adds a pattern of an owner, or one that is common. Where others of the same shape and owner stand, they go before
    /// it: parameter names do not matter.
    pub(super) fn add(&mut self, pattern: &[u8], owner: Option<Owner>, value: T) {
        let mut node = &mut self.root;
        for segment in segments(pattern) {
            if segment.starts_with(b"{*") {
                return node.rest.add(owner, value);
            }
            node = if segment.starts_with(b"{") {
                node.parameter.get_or_insert_default()
            } else {
                node.literal.entry(segment.to_owned()).or_default()
            };
        }
        node.here.add(owner, value);
    }

    /// How many patterns there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.root.len()
    }

    /// What the most specific pattern stands for, of `owner`'s and the common ones, that matches `path` and `accepts`
    /// it.
    pub(super) fn find(&self, path: &[u8], owner: Option<Owner>, accepts: impl Fn(&T) -> bool) -> Option<&T> {
        path.starts_with(b"/").then(|| self.root.find(segments(path), owner, &accepts))?
    }
}

impl<T> Node<T> {
    fn find<'p, 'n, S>(
        &'n self,
        mut left: S,
        owner: Option<Owner>,
        accepts: &impl Fn(&T) -> bool,
    ) -> Option<&'n T>
    where
        S: Iterator<Item = &'p [u8]> + Clone,
    {
        let first = |values: &'n Values<T>| values.of(owner).find(|value| accepts(value));
        let Some(segment) = left.next() else { return first(&self.here).or_else(|| first(&self.rest)) };
        let deeper = |node: &'n Self| node.find(left.clone(), owner, accepts);
        let literal = self.literal.get(segment).and_then(deeper);
        let parameter = || self.parameter.as_deref().filter(|_| !segment.is_empty()).and_then(deeper);
        literal.or_else(parameter).or_else(|| first(&self.rest))
    }
}

#[cfg(test)]
impl<T> Node<T> {
    fn len(&self) -> usize {
        let below = self.literal.values().chain(self.parameter.as_deref()).map(Self::len).sum::<usize>();
        below + self.here.len() + self.rest.len()
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literal: HashMap::new(), parameter: None, rest: Values::default(), here: Values::default() }
    }
}

impl<T> Values<T> {
    fn add(&mut self, owner: Option<Owner>, value: T) {
        match owner {
            Some(owner) => self.owned.entry(owner).or_default().push(value),
            None => self.common.push(value),
        }
    }

    /// Those of `owner`, then the common ones.
    fn of(&self, owner: Option<Owner>) -> impl Iterator<Item = &T> {
        let its_own = owner.and_then(|owner| self.owned.get(&owner));
        its_own.into_iter().flatten().chain(&self.common)
    }
}

#[cfg(test)]
impl<T> Values<T> {
    fn len(&self) -> usize {
        self.common.len() + self.owned.values().map(Vec::len).sum::<usize>()
    }
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self { owned: HashMap::new(), common: Vec::new() }
    }
}

/// The segments of a path; the root has one, which is empty.
pub(super) fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/')
}
