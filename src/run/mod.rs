//! A run: the scheduler, the hosts' workers, and what they say.

mod answer;
mod ask;
mod background;
mod budget;
pub mod due;
pub mod event;
mod executor;
mod explain;
mod here;
pub mod holds;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod language_tests;
pub mod link;
#[cfg(test)]
mod order_tests;
mod reboot;
#[cfg(test)]
mod redaction_tests;
mod result;
#[cfg(test)]
mod role_tests;
mod schedule;
#[cfg(test)]
mod tests;

pub use ask::{Asker, Person};
pub use background::Background;
pub use event::{Again, Counts, Emit, Event, Outcome, Recap};
pub use executor::Shared;
pub use link::LinkOptions;
pub use result::add_output;
pub use schedule::{Carried, run};
