//! A map of bounded size that forgets its oldest entries.
//!
//! Two generations: what is touched goes into the young one; when that is full it becomes the old
//! one, and what nobody touched since is gone. Whoever floods it with new keys costs a bounded
//! amount of memory and no search.

use std::collections::HashMap;
use std::hash::Hash;

use ahash::RandomState;

/// The map.
#[derive(Debug)]
pub(super) struct Aged<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
    half: usize,
}

impl<K: Eq + Hash, V: Copy> Aged<K, V> {
    /// An empty map of at most so many entries.
    pub(super) fn new(entries: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            half: (entries / 2).max(1),
        }
    }

    /// The value of a key.
    pub(super) fn find(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Sets the value of a key, and makes it young.
    pub(super) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets a key.
    pub(super) fn forget(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// How many entries there are.
    pub(super) fn count(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_keys_takes_no_more_than_its_room_and_what_is_used_stays() {
        let mut map = Aged::new(1000);
        map.put(u32::MAX, 1);
        for key in 0..100_000 {
            map.put(key, 0);
            assert!(map.count() <= 1000);
            if key % 400 == 0 {
                let used = map.find(&u32::MAX).unwrap();
                map.put(u32::MAX, used);
            }
        }
        assert_eq!(map.find(&u32::MAX), Some(1));
        assert_eq!(map.find(&0), None, "the oldest are out");
        assert_eq!(map.find(&99_999), Some(0));
        map.forget(&99_999);
        assert_eq!(map.find(&99_999), None);
    }
}
