//! One request for many probes: the script that asks, and the reading of what it prints.
