//! age-encrypted secrets: reading, writing, and keeping them out of everything that is shown.
