//! Which commits descend from which, as far as it is known: what a lane is ordered by.

use std::collections::{HashMap, HashSet};

use super::order::Ancestry;

/// Pairs of a commit and an ancestor of it. Of hundreds that wait nearly all are pairs, and a lane asks
/// for each of them more than once: so every commit is kept once, and pairs are of numbers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Descents {
    numbers: HashMap<String, usize>,
    pairs: HashSet<(usize, usize)>,
}

impl Descents {
    /// That `commit` has `ancestor` among its ancestors. What is empty, or both, tells nothing.
    pub(crate) fn insert(&mut self, commit: &str, ancestor: &str) {
        if commit != ancestor && !commit.is_empty() && !ancestor.is_empty() {
            let pair = (self.number(commit), self.number(ancestor));
            self.pairs.insert(pair);
        }
    }

    pub(super) fn remove(&mut self, commit: &str, ancestor: &str) {
        if let Some(pair) = self.pair(commit, ancestor) {
            self.pairs.remove(&pair);
        }
    }

    /// Nothing is known to descend from anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// How many pairs are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    fn number(&mut self, commit: &str) -> usize {
        if let Some(number) = self.numbers.get(commit) {
            return *number;
        }
        let next = self.numbers.len();
        self.numbers.insert(commit.to_owned(), next);
        next
    }

    fn pair(&self, commit: &str, ancestor: &str) -> Option<(usize, usize)> {
        Some((*self.numbers.get(commit)?, *self.numbers.get(ancestor)?))
    }
}

impl Ancestry for Descents {
    fn descends(&self, commit: &str, ancestor: &str) -> bool {
        let pair = self.pair(commit, ancestor);
        pair.is_some_and(|pair| self.pairs.contains(&pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_known_one_way_and_until_it_is_taken_back() {
        let mut known = Descents::default();
        assert!(known.is_empty());
        known.insert("b", "a");
        known.insert("c", "b");
        known.insert("c", "b");
        assert!(known.descends("b", "a") && known.descends("c", "b"));
        assert!(!known.descends("a", "b"));
        // Nobody said it, and nobody knows the last.
        assert!(!known.descends("c", "a") && !known.descends("d", "a"));
        assert_eq!(known.len(), 2);
        known.remove("c", "b");
        known.remove("d", "b");
        assert!(!known.descends("c", "b"));
        assert_eq!(known.len(), 1);
    }

    #[test]
    fn a_commit_descends_neither_from_itself_nor_from_nothing() {
        let mut known = Descents::default();
        for (commit, ancestor) in [("a", "a"), ("", "a"), ("a", ""), ("", "")] {
            known.insert(commit, ancestor);
            assert!(!known.descends(commit, ancestor), "{commit:?} {ancestor:?}");
        }
        assert!(known.is_empty());
    }
}
