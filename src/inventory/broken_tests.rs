//! Broken inventories: what is said, and about which place.
