//! The pages that were found, and what is left of the tree that held them.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{self, Entries};

/// What a page takes from the nodes above it where it has none of its own.
const INHERITED: [&str; 4] = ["Resources", "MediaBox", "CropBox", "Rotate"];
const MAX_DEPTH: usize = 50;
/// All pages' dictionaries together.
const MAX_BYTES: usize = 32 << 20;

#[derive(Default)]
pub(super) struct PageTree {
    /// Each page's dictionary, and its place among all in the order of the file.
    pages: BTreeMap<u32, (usize, Vec<u8>)>,
    nodes: BTreeMap<u32, Node>,
    seen: usize,
    bytes: usize,
}

/// An inner node of the old tree.
struct Node {
    parent: Option<u32>,
    kids: Vec<u32>,
    inherited: [Option<Vec<u8>>; INHERITED.len()],
}

impl PageTree {
    pub(super) fn add_page(&mut self, number: u32, text: &[u8]) {
        self.seen += 1;
        self.bytes += text.len();
        if self.bytes > MAX_BYTES {
            return;
        }
        self.pages.insert(number, (self.seen, text.to_owned()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(super) fn add_node(&mut self, number: u32, entries: &Entries<'_>) {
        let value = |name| syntax::get(entries, name);
        let node = Node {
            parent: value("Parent").and_then(syntax::reference),
            kids: value("Kids").map(syntax::references).unwrap_or_default(),
            inherited: INHERITED.map(|name| value(name).map(<[u8]>::to_owned)),
        };
        self.nodes.insert(number, node);
    }

    /// The object with this number is another one now.
    pub(super) fn forget(&mut self, number: u32) {
        self.pages.remove(&number);
        self.nodes.remove(&number);
    }

    /// All pages: first those that the old tree still leads to, in its order, from `root` and then
    /// from every other node without a parent; then the rest as they stand in the file.
    pub(super) fn in_order(&self, root: Option<u32>) -> Vec<u32> {
        let is_top = |node: &Node| node.parent.is_none_or(|up| !self.nodes.contains_key(&up));
        let tops = self
            .nodes
            .iter()
            .filter(|(_, node)| is_top(node))
            .map(|(number, _)| *number);
        let mut pending: Vec<u32> = root.into_iter().chain(tops).collect();
        pending.reverse();
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        while let Some(number) = pending.pop() {
            if !seen.insert(number) {
                continue;
            }
            if self.pages.contains_key(&number) {
                order.push(number);
            } else if let Some(node) = self.nodes.get(&number) {
                pending.extend(node.kids.iter().rev());
            }
        }
        let mut rest: Vec<_> = self
            .pages
            .iter()
            .filter(|(number, _)| !seen.contains(number))
            .map(|(number, (place, _))| (*place, *number))
            .collect();
        rest.sort_unstable();
        order.extend(rest.into_iter().map(|(_, number)| number));
        order
    }

    /// The page's dictionary below a new `parent`, with what it inherited from the old ones.
    pub(super) fn page(&self, number: u32, parent: u32) -> Vec<u8> {
        let Some((_, text)) = self.pages.get(&number) else {
            return Vec::new();
        };
        let (entries, _) = syntax::dictionary(text).expect("it was one when it was added");
        let mut out = format!("<< /Parent {parent} 0 R").into_bytes();
        for (name, value) in &entries {
            if *name != b"Parent" {
                out.extend([b" /", *name, b" ", *value].concat());
            }
        }
        let mut missing = INHERITED.map(|name| syntax::get(&entries, name).is_none());
        let mut up = syntax::get(&entries, "Parent").and_then(syntax::reference);
        for _ in 0..MAX_DEPTH {
            let Some(node) = up.and_then(|up| self.nodes.get(&up)) else {
                break;
            };
            for ((name, missing), value) in INHERITED.iter().zip(&mut missing).zip(&node.inherited)
            {
                if let (true, Some(value)) = (*missing, value) {
                    out.extend([b" /", name.as_bytes(), b" ", value].concat());
                    *missing = false;
                }
            }
            up = node.parent;
        }
        out.extend(b" >>");
        out
    }
}
