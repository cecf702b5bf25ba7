//! Throw-away Debian nodes on this machine, for demos and tests.
