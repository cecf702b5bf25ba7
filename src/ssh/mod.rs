//! Connections to hosts.
