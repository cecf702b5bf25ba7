//! What hosts hold while they change something: locks, places under a throttle, places in a disruption budget. Taken
//! only when a step is about to act, so that a run that changes nothing never waits here.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// What the keys of budgets begin with.
pub const BUDGET: &str = "budget ";

/// All that is held in a run.
#[derive(Default)]
pub struct Holds {
    state: Mutex<State>,
    changed: Notify,
    /// Somebody has begun to wait.
    waits: Notify,
}

#[derive(Default)]
struct State {
    /// Who has it: host and how often, by key.
    taken: HashMap<String, HashMap<usize, u32>>,
    /// Places that are never given on again: the host's name, and the reason. A later stage may count its hosts anew.
    lost: HashMap<String, Vec<(String, String)>>,
    /// By host: for a place of which key, and how many there are.
    waiting: HashMap<usize, (String, usize)>,
    /// Those who wait are to give up: nobody can help them.
    stuck: bool,
}

/// Why nothing could be taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// Those who have it will not give it back.
    Lost(String),
    /// Those who have it wait, directly or not, for this host.
    Circle,
    /// The run is to stop.
    Stopped,
}

impl Holds {
    /// Takes a place of `size`; waits until there is one, or until one of `stops` is set. `true`: it had to wait.
    pub async fn take(&self, key: &str, size: usize, host: usize, stops: &[&AtomicBool]) -> Result<bool, Refused> {
        let mut waited = false;
        loop {
            let changed = self.changed.notified();
            if waited && stops.iter().any(|s| s.load(Ordering::Relaxed)) {
                self.locked(|s| s.waiting.remove(&host));
                return Err(Refused::Stopped);
            }
            match self.try_take(key, size, host) {
                Ok(true) => return Ok(waited),
                Ok(false) => {
                    if !waited {
                        self.waits.notify_one();
                    }
                    waited = true;
                }
                Err(e) => return Err(e),
            }
            // The time limit is for `stops` alone: a place that is given back wakes us.
            let _ = tokio::time::timeout(Duration::from_millis(500), changed).await;
        }
    }

    fn try_take(&self, key: &str, size: usize, host: usize) -> Result<bool, Refused> {
        self.locked(|s| {
            let lost = s.lost.get(key).map_or(&[][..], Vec::as_slice);
            let mine = s.taken.get(key).is_some_and(|t| t.contains_key(&host));
            if mine || !s.is_full(key, size) {
                *s.taken.entry(key.to_string()).or_default().entry(host).or_default() += 1;
                s.waiting.remove(&host);
                return Ok(true);
            }
            if lost.len() >= size {
                s.waiting.remove(&host);
                return Err(Refused::Lost(lost.last().map(|(_, why)| why.clone()).unwrap_or_default()));
            }
            s.waiting.insert(host, (key.to_string(), size));
            if s.stuck || s.waits_for_itself(host) {
                s.waiting.remove(&host);
                s.stuck &= !s.waiting.is_empty();
                return Err(Refused::Circle);
            }
            Ok(false)
        })
    }

    /// Ends when a host begins to wait.
    pub async fn someone_waits(&self) {
        self.waits.notified().await;
    }

    /// How many hosts wait.
    pub fn waiting(&self) -> usize {
        self.locked(|s| s.waiting.len())
    }

    /// Nothing goes on but these hosts: if all of them wait for what none of them will give back, they give up.
    /// `all_heard`: nothing they said before they began to wait is still unheard.
    pub fn give_up_if_stuck(&self, at_work: &[usize], all_heard: impl FnOnce() -> bool) {
        let stuck = self.locked(|s| {
            let vain = |h: &usize| s.waiting.get(h).is_some_and(|(key, size)| s.is_full(key, *size));
            // In this order: who begins to wait between the two would not be seen.
            s.stuck = !at_work.is_empty() && at_work.iter().all(vain) && all_heard();
            s.stuck
        });
        if stuck {
            self.changed.notify_waiters();
        }
    }

    /// Gives a place back.
    pub fn give_back(&self, key: &str, host: usize) {
        self.locked(|s| s.release(key, host));
        self.changed.notify_waiters();
    }

    /// Keeps a place for ever: what it stands for did not come back.
    pub fn lose(&self, key: &str, host: usize, name: &str, what: &str) {
        self.locked(|s| {
            if let Some(t) = s.taken.get_mut(key) {
                t.remove(&host);
            }
            s.lose(key, name, &format!("{name} {what}"));
        });
        self.changed.notify_waiters();
    }

    /// Nobody is left who could give back what this host has: its places in budgets are lost, the rest is free.
    pub fn abandon(&self, host: usize, name: &str) {
        let why = format!("the work on {name} broke off");
        self.locked(|s| {
            s.waiting.remove(&host);
            let keys: Vec<String> =
                s.taken.iter_mut().filter_map(|(k, t)| t.remove(&host).map(|_| k.clone())).collect();
            keys.iter().filter(|k| k.starts_with(BUDGET)).for_each(|k| s.lose(k, name, &why));
        });
        self.changed.notify_waiters();
    }

    /// A lock of this module is never held across a wait, and nothing in it panics.
    fn locked<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl State {
    /// A host is away once, however often it is said.
    fn lose(&mut self, key: &str, name: &str, why: &str) {
        let lost = self.lost.entry(key.to_string()).or_default();
        if !lost.iter().any(|(h, _)| h == name) {
            lost.push((name.to_string(), why.to_string()));
        }
    }

    fn is_full(&self, key: &str, size: usize) -> bool {
        self.taken.get(key).map_or(0, HashMap::len) + self.lost.get(key).map_or(0, Vec::len) >= size
    }

    fn release(&mut self, key: &str, host: usize) {
        if let Some(t) = self.taken.get_mut(key)
            && let Some(n) = t.get_mut(&host)
        {
            *n -= 1;
            if *n == 0 {
                t.remove(&host);
            }
        }
    }

    /// Whether all who could make room for this host wait, directly or not, for this host.
    fn waits_for_itself(&self, host: usize) -> bool {
        let waits = |h: &usize| self.waiting.get(h);
        let mut helped: HashSet<usize> = HashSet::new();
        loop {
            // One who waits is helped by anyone who has a place there and goes on.
            let goes_on = |h: &usize| waits(h).is_none() || helped.contains(h);
            let can = |key: &str, size| {
                !self.is_full(key, size) || self.taken.get(key).is_some_and(|t| t.keys().any(goes_on))
            };
            let more: Vec<usize> = self
                .waiting
                .iter()
                .filter(|(h, (key, size))| !helped.contains(h) && can(key, *size))
                .map(|(h, _)| *h)
                .collect();
            if more.is_empty() {
                return !helped.contains(&host);
            }
            helped.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn block_on<T>(f: impl std::future::Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(f)
    }

    #[test]
    fn as_many_as_there_are_places() {
        block_on(async {
            let h = Arc::new(Holds::default());
            let go = Arc::new(AtomicBool::new(false));
            assert_eq!(h.take("k", 2, 0, &[&go]).await, Ok(false));
            assert_eq!(h.take("k", 2, 1, &[&go]).await, Ok(false));
            // Once more for the same host is no new place.
            assert_eq!(h.take("k", 2, 1, &[&go]).await, Ok(false));
            let (h2, go2) = (h.clone(), go.clone());
            let third = tokio::spawn(async move { h2.take("k", 2, 2, &[&go2]).await });
            tokio::time::sleep(Duration::from_millis(20)).await;
            h.give_back("k", 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!third.is_finished(), "host 1 has it still");
            h.give_back("k", 1);
            assert_eq!(third.await.unwrap(), Ok(true));
        });
    }

    #[test]
    fn what_is_lost_is_refused_with_its_reason() {
        block_on(async {
            let h = Holds::default();
            let go = AtomicBool::new(false);
            h.take("k", 1, 0, &[&go]).await.unwrap();
            h.lose("k", 0, "a", "did not come back");
            assert_eq!(h.take("k", 1, 1, &[&go]).await, Err(Refused::Lost("a did not come back".into())));
            assert_eq!(h.take("k", 2, 1, &[&go]).await, Ok(false), "one of two places is left");
        });
    }

    #[test]
    fn what_is_lost_stays_lost_where_hosts_are_counted_anew() {
        block_on(async {
            let h = Holds::default();
            let go = AtomicBool::new(false);
            h.lose("k", 1, "b", "is not back");
            // In the next stage it is the first.
            h.lose("k", 0, "b", "is not back");
            h.lose("k", 1, "a", "is not back");
            assert_eq!(h.take("k", 3, 2, &[&go]).await, Ok(false), "two are away, not three");
            assert_eq!(h.take("k", 2, 3, &[&go]).await, Err(Refused::Lost("a is not back".into())));
        });
    }

    #[test]
    fn a_circle_is_seen_and_a_stop_is_heard() {
        block_on(async {
            let h = Arc::new(Holds::default());
            let go = Arc::new(AtomicBool::new(false));
            h.take("a", 1, 0, &[&go]).await.unwrap();
            h.take("b", 1, 1, &[&go]).await.unwrap();
            let (h2, go2) = (h.clone(), go.clone());
            let waits = tokio::spawn(async move { h2.take("b", 1, 0, &[&go2]).await });
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(h.take("a", 1, 1, &[&go]).await, Err(Refused::Circle));
            go.store(true, Ordering::Relaxed);
            assert_eq!(waits.await.unwrap(), Err(Refused::Stopped));
        });
    }

    #[test]
    fn one_of_two_who_goes_on_is_enough() {
        block_on(async {
            let h = Arc::new(Holds::default());
            let go = Arc::new(AtomicBool::new(false));
            h.take("a", 1, 0, &[&go]).await.unwrap();
            h.take("k", 2, 1, &[&go]).await.unwrap();
            h.take("k", 2, 2, &[&go]).await.unwrap();
            let wait = |key: &'static str, size, host| {
                let (h, go) = (h.clone(), go.clone());
                tokio::spawn(async move { h.take(key, size, host, &[&go]).await })
            };
            let one = wait("a", 1, 1);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let zero = wait("k", 2, 0);
            tokio::time::sleep(Duration::from_millis(20)).await;
            h.give_back("k", 2);
            assert_eq!(zero.await.unwrap(), Ok(true));
            h.give_back("a", 0);
            assert_eq!(one.await.unwrap(), Ok(true));
        });
    }

    #[test]
    fn a_host_whose_work_broke_off_keeps_no_lock_and_its_place_is_lost_once() {
        block_on(async {
            let h = Holds::default();
            let go = AtomicBool::new(false);
            let budget = format!("{BUDGET}m");
            for key in ["lock l", &budget, &budget] {
                h.take(key, 2, 0, &[&go]).await.unwrap();
            }
            h.abandon(0, "a");
            h.lose(&budget, 0, "a", "is not back");
            assert_eq!(h.take("lock l", 1, 1, &[&go]).await, Ok(false));
            assert_eq!(h.take(&budget, 2, 1, &[&go]).await, Ok(false), "one host is away, not two");
            assert_eq!(h.take(&budget, 1, 2, &[&go]).await, Err(Refused::Lost("the work on a broke off".into())));
        });
    }

    #[derive(Debug, Clone, Copy)]
    enum End {
        GivenBack,
        Lost,
        BrokeOff,
    }

    /// What a host does: takes these keys, one inside the other, pauses, and comes to this end.
    type Work = (Vec<usize>, u8, End);

    fn works() -> impl Strategy<Value = Vec<Vec<Work>>> {
        let end = prop_oneof![8 => Just(End::GivenBack), 1 => Just(End::Lost), 1 => Just(End::BrokeOff)];
        let work = (proptest::collection::vec(0..4usize, 1..4), 0..3u8, end);
        proptest::collection::vec(proptest::collection::vec(work, 0..6), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..Default::default() })]
        /// In whatever order: never more have a place than there are, and everybody comes to an end.
        #[test]
        fn never_too_many_and_nobody_is_left_behind(
            hosts in works(),
            sizes in proptest::collection::vec(1..4usize, 4),
        ) {
            let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
            let holds = Arc::new(Holds::default());
            let at: Arc<Vec<AtomicUsize>> = Arc::new((0..4).map(|_| AtomicUsize::new(0)).collect());
            let count = hosts.len();
            let limit = Duration::from_secs(20);
            let wrong = rt.block_on(async {
                let mut all = tokio::task::JoinSet::new();
                for (host, works) in hosts.into_iter().enumerate() {
                    let (holds, at, sizes) = (holds.clone(), at.clone(), sizes.clone());
                    all.spawn(async move { host_at_work(host, works, &holds, &at, &sizes).await });
                }
                let mut wrong = vec![];
                while let Some(r) = tokio::time::timeout(limit, all.join_next()).await.expect("they hang") {
                    wrong.extend(r.unwrap());
                }
                wrong
            });
            prop_assert!(wrong.is_empty(), "{:?} of {} hosts", wrong, count);
            prop_assert_eq!(holds.waiting(), 0);
        }
    }

    async fn host_at_work(
        host: usize,
        works: Vec<Work>,
        holds: &Holds,
        at: &[AtomicUsize],
        sizes: &[usize],
    ) -> Vec<String> {
        let go = AtomicBool::new(false);
        let mut wrong = vec![];
        for (keys, pause, end) in works {
            let mut mine: Vec<usize> = vec![];
            for k in keys {
                match holds.take(&format!("{BUDGET}{k}"), sizes[k], host, &[&go]).await {
                    Ok(_) => {
                        let more = if mine.contains(&k) { 0 } else { 1 };
                        mine.push(k);
                        let now = at[k].fetch_add(more, Ordering::SeqCst) + more;
                        if now > sizes[k] {
                            wrong.push(format!("{now} have {} places of {k}", sizes[k]));
                        }
                    }
                    Err(Refused::Stopped) => wrong.push("nobody stopped it".into()),
                    Err(Refused::Circle | Refused::Lost(_)) => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(pause.into())).await;
            // A place that is lost stays taken: it is never counted down.
            if let End::BrokeOff = end {
                holds.abandon(host, &host.to_string());
                return wrong;
            }
            if let (End::Lost, Some(k)) = (end, mine.last().copied()) {
                mine.retain(|m| *m != k);
                holds.lose(&format!("{BUDGET}{k}"), host, &host.to_string(), "is not back");
            }
            let over = matches!(end, End::Lost);
            while let Some(k) = mine.pop() {
                if !mine.contains(&k) {
                    at[k].fetch_sub(1, Ordering::SeqCst);
                }
                holds.give_back(&format!("{BUDGET}{k}"), host);
            }
            if over {
                return wrong;
            }
        }
        wrong
    }
}
