//! Inventories as JSON and as a tree.
