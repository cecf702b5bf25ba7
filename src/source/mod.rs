//! Project files as text with places in it, and what is wrong with them.
