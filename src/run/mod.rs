//! A run: the scheduler, the hosts' workers, and what they say.

pub mod due;
pub mod event;
mod executor;
mod here;
pub mod link;
mod result;
mod schedule;
#[cfg(test)]
mod tests;

pub use event::{Again, Counts, Emit, Event, Outcome, Recap};
pub use executor::Shared;
pub use link::LinkOptions;
pub use schedule::run;
