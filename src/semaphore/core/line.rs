//! A semaphore's line: its waiting claims in grant order, with sums.
//!
//! A treap (Seidel and Aragon, "Randomized Search Trees", 1996) over places. Each node knows of its
//! subtree how many claims it has, the sum of the weights of those that are eligible, and the greatest
//! weight, so that a position, the sum up to a claim and "who asks for more than n" are logarithmic. The
//! heap order comes from a hash of the sequence number and not from a random source: the same claims
//! always make the same tree.

use std::{cmp::Ordering, cmp::Reverse};

use crate::model::{Priority, Sequence};

/// Where a claim stands in every line it is in: by priority, higher first, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: Reverse<Priority>,
    /// The claim.
    pub sequence: Sequence,
}

impl Place {
    /// The place of a claim.
    #[must_use]
    pub fn new(priority: Priority, sequence: Sequence) -> Place {
        Place { priority: Reverse(priority), sequence }
    }

    /// The claim's priority.
    #[must_use]
    pub fn priority(self) -> Priority {
        self.priority.0
    }
}

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node {
    place: Place,
    weight: u32,
    eligible: bool,
    left: u32,
    right: u32,
    // Of the subtree that hangs here, this node included:
    claims: u32,
    eligible_weight: u64,
    weight_max: u32,
}

/// Waiting claims in grant order.
#[derive(Clone, Debug)]
pub(super) struct Line {
    nodes: Vec<Node>,
    unused: Vec<u32>,
    root: u32,
}

impl Line {
    pub(super) fn new() -> Line {
        Line { nodes: Vec::new(), unused: Vec::new(), root: NONE }
    }

    /// How many claims wait here.
    pub(super) fn len(&self) -> usize {
        self.node(self.root).map_or(0, |node| node.claims as usize)
    }

    /// Sum of the weights of all eligible claims.
    pub(super) fn eligible_weight(&self) -> u64 {
        self.node(self.root).map_or(0, |node| node.eligible_weight)
    }

    /// Puts a claim in its place, where none may be yet.
    pub(super) fn insert(&mut self, place: Place, weight: u32, eligible: bool) {
        let node = Node {
            place,
            weight,
            eligible,
            left: NONE,
            right: NONE,
            claims: 1,
            eligible_weight: if eligible { u64::from(weight) } else { 0 },
            weight_max: weight,
        };
        let new = match self.unused.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        self.root = self.insert_below(self.root, new);
    }

    fn insert_below(&mut self, root: u32, new: u32) -> u32 {
        if root == NONE {
            return new;
        }
        let place = self.nodes[new as usize].place;
        if heap_rank(place) > heap_rank(self.nodes[root as usize].place) {
            let (left, right) = self.split(root, place);
            self.nodes[new as usize].left = left;
            self.nodes[new as usize].right = right;
            self.sum_up(new);
            return new;
        }
        if place < self.nodes[root as usize].place {
            let left = self.insert_below(self.nodes[root as usize].left, new);
            self.nodes[root as usize].left = left;
        } else {
            let right = self.insert_below(self.nodes[root as usize].right, new);
            self.nodes[root as usize].right = right;
        }
        self.sum_up(root);
        root
    }

    /// Cuts a subtree into what stands before `place` and what does not.
    fn split(&mut self, root: u32, place: Place) -> (u32, u32) {
        if root == NONE {
            return (NONE, NONE);
        }
        if self.nodes[root as usize].place < place {
            let (left, right) = self.split(self.nodes[root as usize].right, place);
            self.nodes[root as usize].right = left;
            self.sum_up(root);
            (root, right)
        } else {
            let (left, right) = self.split(self.nodes[root as usize].left, place);
            self.nodes[root as usize].left = right;
            self.sum_up(root);
            (left, root)
        }
    }

    /// Takes a claim out. Where none is, nothing happens.
    pub(super) fn remove(&mut self, place: Place) {
        self.root = self.remove_below(self.root, place);
        if self.root == NONE {
            // An empty line gives its memory back: queues are long once and short most of the time.
            self.nodes = Vec::new();
            self.unused = Vec::new();
        }
    }

    fn remove_below(&mut self, root: u32, place: Place) -> u32 {
        if root == NONE {
            return NONE;
        }
        let node = &self.nodes[root as usize];
        let (left, right) = (node.left, node.right);
        match place.cmp(&node.place) {
            Ordering::Equal => {
                self.unused.push(root);
                return self.merge(left, right);
            }
            Ordering::Less => self.nodes[root as usize].left = self.remove_below(left, place),
            Ordering::Greater => self.nodes[root as usize].right = self.remove_below(right, place),
        }
        self.sum_up(root);
        root
    }

    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        let rank = |index: u32| heap_rank(self.nodes[index as usize].place);
        if rank(left) > rank(right) {
            let merged = self.merge(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = merged;
            self.sum_up(left);
            left
        } else {
            let merged = self.merge(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = merged;
            self.sum_up(right);
            right
        }
    }

    /// Says whether a claim counts in the sums.
    pub(super) fn set_eligible(&mut self, place: Place, eligible: bool) {
        self.set_eligible_below(self.root, place, eligible);
    }

    fn set_eligible_below(&mut self, root: u32, place: Place, eligible: bool) {
        let Some(node) = self.node(root) else { return };
        match place.cmp(&node.place) {
            Ordering::Equal => self.nodes[root as usize].eligible = eligible,
            Ordering::Less => self.set_eligible_below(node.left, place, eligible),
            Ordering::Greater => self.set_eligible_below(node.right, place, eligible),
        }
        self.sum_up(root);
    }

    /// Claims at or before `place`: the position, counted from 1, of the claim that stands there.
    pub(super) fn position(&self, place: Place) -> usize {
        self.sum_through(place, |node| u64::from(node.claims), |_| 1)
            .try_into()
            .unwrap_or(usize::MAX)
    }

    /// Sum of the weights of the eligible claims at or before `place`.
    pub(super) fn eligible_weight_through(&self, place: Place) -> u64 {
        self.sum_through(
            place,
            |node| node.eligible_weight,
            |node| if node.eligible { u64::from(node.weight) } else { 0 },
        )
    }

    fn sum_through(
        &self,
        place: Place,
        subtree: impl Fn(&Node) -> u64,
        own: impl Fn(&Node) -> u64,
    ) -> u64 {
        let mut sum = 0;
        let mut at = self.root;
        while let Some(node) = self.node(at) {
            if node.place <= place {
                sum += self.node(node.left).map_or(0, &subtree) + own(node);
                at = node.right;
            } else {
                at = node.left;
            }
        }
        sum
    }

    /// The claims that ask for more than `weight`, in order.
    pub(super) fn heavier_than(&self, weight: u32) -> Vec<Sequence> {
        let mut found = Vec::new();
        let mut stack = Vec::new();
        let mut at = self.root;
        loop {
            while let Some(node) = self.node(at).filter(|node| node.weight_max > weight) {
                stack.push(at);
                at = node.left;
            }
            let Some(index) = stack.pop() else { return found };
            let node = &self.nodes[index as usize];
            if node.weight > weight {
                found.push(node.place.sequence);
            }
            at = node.right;
        }
    }

    /// The claims after `place` in order; all of them where there is none.
    pub(super) fn after(&self, place: Option<Place>) -> Iter<'_> {
        let mut iter = Iter { line: self, stack: Vec::new() };
        let mut at = self.root;
        while let Some(node) = self.node(at) {
            if place.is_none_or(|place| node.place > place) {
                iter.stack.push(at);
                at = node.left;
            } else {
                at = node.right;
            }
        }
        iter
    }

    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    fn sum_up(&mut self, index: u32) {
        let node = &self.nodes[index as usize];
        let mut claims = 1;
        let mut eligible_weight = if node.eligible { u64::from(node.weight) } else { 0 };
        let mut weight_max = node.weight;
        for child in [node.left, node.right] {
            if let Some(child) = self.node(child) {
                claims += child.claims;
                eligible_weight += child.eligible_weight;
                weight_max = weight_max.max(child.weight_max);
            }
        }
        let node = &mut self.nodes[index as usize];
        (node.claims, node.eligible_weight, node.weight_max) =
            (claims, eligible_weight, weight_max);
    }
}

/// Claims of a line in order: place, weight, whether it is eligible.
pub(super) struct Iter<'a> {
    line: &'a Line,
    stack: Vec<u32>,
}

impl Iterator for Iter<'_> {
    type Item = (Place, u32, bool);

    fn next(&mut self) -> Option<(Place, u32, bool)> {
        let node = self.line.node(self.stack.pop()?)?;
        let mut at = node.right;
        while let Some(child) = self.line.node(at) {
            self.stack.push(at);
            at = child.left;
        }
        Some((node.place, node.weight, node.eligible))
    }
}

/// Two lines are the same when the same claims wait in them; where the nodes lie does not matter.
impl PartialEq for Line {
    fn eq(&self, other: &Line) -> bool {
        self.after(None).eq(other.after(None))
    }
}

/// Spreads sequence numbers (SplitMix64's finalizer: Steele, Lea, Flood 2014); as good as random here.
fn heap_rank(place: Place) -> u64 {
    let mut x = place.sequence.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(priority: i64, sequence: u64) -> Place {
        Place::new(Priority::new(priority).unwrap(), Sequence(sequence))
    }

    #[test]
    fn higher_priority_stands_first_then_arrival() {
        assert!(place(1, 9) < place(0, 1));
        assert!(place(0, 1) < place(0, 2));
    }

    #[test]
    fn a_long_line_is_shallow() {
        let mut line = Line::new();
        for n in 0..100_000 {
            line.insert(place(0, n), 1, true);
        }
        fn depth(line: &Line, at: u32) -> usize {
            line.node(at).map_or(0, |n| 1 + depth(line, n.left).max(depth(line, n.right)))
        }
        assert!(depth(&line, line.root) < 60, "{}", depth(&line, line.root));
        assert_eq!(line.position(place(0, 99_999)), 100_000);
    }

    proptest! {
        /// A sorted vector is the naive model.
        #[test]
        fn behaves_as_a_sorted_vector(
            steps in prop::collection::vec((0_u8..4, -2_i64..3, 0_u64..40, 1_u32..5), 1..200),
        ) {
            let mut line = Line::new();
            let mut model: Vec<(Place, u32, bool)> = Vec::new();
            for (kind, priority, sequence, weight) in steps {
                let at = place(priority, sequence);
                let found = model.binary_search_by_key(&at, |entry| entry.0);
                match (kind, found) {
                    (0, Err(index)) => {
                        line.insert(at, weight, weight % 2 == 0);
                        model.insert(index, (at, weight, weight % 2 == 0));
                    }
                    (1, found) => {
                        line.remove(at);
                        if let Ok(index) = found {
                            model.remove(index);
                        }
                    }
                    (_, found) => {
                        line.set_eligible(at, kind == 2);
                        if let Ok(index) = found {
                            model[index].2 = kind == 2;
                        }
                    }
                }
                prop_assert_eq!(line.len(), model.len());
                prop_assert_eq!(line.after(None).collect::<Vec<_>>(), model.clone());
                let before: Vec<_> = model.iter().filter(|entry| entry.0 <= at).collect();
                prop_assert_eq!(line.position(at), before.len());
                let sum: u64 = before.iter().filter(|e| e.2).map(|e| u64::from(e.1)).sum();
                prop_assert_eq!(line.eligible_weight_through(at), sum);
                let heavy: Vec<_> =
                    model.iter().filter(|e| e.1 > weight).map(|e| e.0.sequence).collect();
                prop_assert_eq!(line.heavier_than(weight), heavy);
                let rest: Vec<_> = model.iter().filter(|e| e.0 > at).copied().collect();
                prop_assert_eq!(line.after(Some(at)).collect::<Vec<_>>(), rest);
            }
        }
    }
}
