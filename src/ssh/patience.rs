//! A time limit that stands still while a person is being asked.

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts the time spent waiting for people, across all parts of one attempt.
#[derive(Debug)]
pub(super) struct Patience {
    clock: Mutex<Clock>,
}

#[derive(Debug)]
struct Clock {
    waiting: usize,
    since: Instant,
    total: Duration,
}

/// Time stands still as long as one of these lives.
pub(super) struct Paused<'a>(&'a Patience);

impl Patience {
    pub(super) fn new() -> Self {
        Patience { clock: Mutex::new(Clock { waiting: 0, since: Instant::now(), total: Duration::ZERO }) }
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pause(&self) -> Paused<'_> {
        let mut clock = self.lock();
        if clock.waiting == 0 {
            clock.since = Instant::now();
        }
        clock.waiting += 1;
        Paused(self)
    }

    fn stood_still(&self) -> Duration {
        let clock = self.lock();
        clock.total + if clock.waiting > 0 { clock.since.elapsed() } else { Duration::ZERO }
    }

    /// Runs a future for at most `limit`, pauses not counted; None when that was too short.
    pub(super) async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let (start, before) = (Instant::now(), self.stood_still());
        let mut future = pin!(future);
        loop {
            let deadline = start + limit + (self.stood_still() - before);
            tokio::select! {
                biased;
                output = &mut future => return Some(output),
                () = tokio::time::sleep_until(deadline) => {
                    if Instant::now() >= start + limit + (self.stood_still() - before) {
                        return None;
                    }
                    // Paused: look again, but not in a busy loop.
                    tokio::select! {
                        output = &mut future => return Some(output),
                        () = tokio::time::sleep(Duration::from_millis(50)) => {}
                    }
                }
            }
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let mut clock = self.0.lock();
        clock.waiting -= 1;
        if clock.waiting == 0 {
            let waited = clock.since.elapsed();
            clock.total += waited;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_do_not_count() {
        let patience = Patience::new();
        let asking = async {
            let _paused = patience.pause();
            tokio::time::sleep(Duration::from_millis(150)).await;
        };
        assert!(patience.within(Duration::from_millis(30), asking).await.is_some());
        let slow = tokio::time::sleep(Duration::from_secs(2));
        assert!(patience.within(Duration::from_millis(30), slow).await.is_none());
    }
}
