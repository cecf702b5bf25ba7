//! Hosts, groups and their variables.
