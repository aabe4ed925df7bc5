//! A value for each policy: made once, found without a lock, never taken away.

use std::sync::OnceLock;

use crate::rate_limit::Policy;

/// A list that only grows. There are a few dozen policies at most, so a walk is shorter than a hash of one.
#[derive(Debug)]
pub(super) struct ByPolicy<T> {
    first: OnceLock<Box<Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    policy: Policy,
    value: T,
    next: OnceLock<Box<Entry<T>>>,
}

impl<T> Default for ByPolicy<T> {
    fn default() -> Self {
        Self { first: OnceLock::new() }
    }
}

impl<T> ByPolicy<T> {
    /// The value of `policy`, made by `make` if it has none yet.
    pub(super) fn get_or_make(&self, policy: &Policy, make: impl Fn() -> T) -> &T {
        // Nearly always a clone of what it was made with; comparing numbers and names on the way takes longer.
        match self.entries().find(|entry| entry.policy.is_clone_of(policy)) {
            Some(entry) => &entry.value,
            None => self.find_or_make(policy, make),
        }
    }

    #[cold]
    fn find_or_make(&self, policy: &Policy, make: impl Fn() -> T) -> &T {
        let mut at = &self.first;
        loop {
            let entry =
                at.get_or_init(|| Box::new(Entry { policy: policy.clone(), value: make(), next: OnceLock::new() }));
            if entry.policy == *policy {
                return &entry.value;
            }
            at = &entry.next;
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        std::iter::successors(self.first.get(), |entry| entry.next.get()).map(|entry| &**entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::settings::LimitSettings;

    #[test]
    fn each_policy_has_one_value_whoever_asks_first() {
        let policies: Vec<_> = (1..20)
            .map(|burst| Policy::new("write.user", &LimitSettings { limit: 100, window_s: 60, burst }))
            .collect::<Result<_, _>>()
            .expect("valid");
        let list = ByPolicy::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for policy in &policies {
                        assert_eq!(policy.burst(), *list.get_or_make(policy, || policy.burst()));
                    }
                });
            }
        });
        assert_eq!(policies.len(), list.entries().count());
    }
}
