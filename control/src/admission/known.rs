//! The objects that a review is judged among.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use weir_analyze::Verdict;
use weir_manifest::{Object, ObjectKey};

/// Most pods that are kept. Of a mesh with more nothing is said of what selectors select.
const MAX_PODS: usize = 5_000;

/// What came of reviews.
#[derive(Debug, Default)]
pub(crate) struct Reviews {
    /// Admitted without a word.
    pub(crate) admitted: AtomicU64,
    /// Admitted with warnings.
    pub(crate) warned: AtomicU64,
    /// Refused.
    pub(crate) refused: AtomicU64,
}

/// Every object that matters to another: endpoints and nodes do not.
#[derive(Debug)]
pub(crate) struct Known {
    held: Mutex<Held>,
    /// What came of reviews.
    pub(crate) reviews: Reviews,
}

#[derive(Debug, Default)]
struct Held {
    objects: HashMap<ObjectKey, Object>,
    pods: usize,
    /// There are, or were, more pods than are kept.
    is_large: bool,
    is_whole: bool,
}

impl Known {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self { held: Mutex::default(), reviews: Reviews::default() }
    }

    /// An object is there, or is so now.
    pub(crate) fn set(&self, object: &Object) {
        let is_pod = match object {
            Object::Node(_) | Object::EndpointSlice(_) => return,
            Object::Pod(_) => true,
            Object::Namespace(_) | Object::Service(_) | Object::Policy(_) | Object::Config(_) => false,
        };
        let mut held = self.held();
        if is_pod && held.is_large {
            return;
        }
        if held.objects.insert(object.key(), object.clone()).is_none() && is_pod {
            held.pods += 1;
            if held.pods > MAX_PODS {
                held.is_large = true;
                held.pods = 0;
                held.objects.retain(|_, object| !matches!(object, Object::Pod(_)));
                held.objects.shrink_to_fit();
            }
        }
    }

    /// An object is gone.
    pub(crate) fn remove(&self, key: &ObjectKey) {
        let mut held = self.held();
        if let Some(Object::Pod(_)) = held.objects.remove(key) {
            held.pods -= 1;
        }
    }

    /// Everything that was there at the start is known.
    pub(crate) fn whole(&self) {
        self.held().is_whole = true;
    }

    /// Whether it is.
    pub(crate) fn is_whole(&self) -> bool {
        self.held().is_whole
    }

    /// All objects, in no order.
    pub(crate) fn objects(&self) -> Vec<Object> {
        self.held().objects.values().cloned().collect()
    }

    /// What came of a review.
    pub(crate) fn count(&self, verdict: &Verdict) {
        let counter = match (verdict.refused.is_empty(), verdict.warnings.is_empty()) {
            (true, true) => &self.reviews.admitted,
            (true, false) => &self.reviews.warned,
            (false, _) => &self.reviews.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use weir_manifest::{FileName, parse};

    use super::*;

    fn pods(count: usize) -> Vec<Object> {
        let text: String = (0..count)
            .map(|n| {
                format!("---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p{n}}}, spec: {{containers: []}}}}\n")
            })
            .collect();
        let service = "---\n{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: None}}\n";
        parse(&[(FileName::new("p.yaml"), &(text + service))]).unwrap().into_objects().collect()
    }

    #[test]
    fn of_a_large_mesh_no_pods_are_kept_and_all_else_is() {
        let known = Known::new();
        for (count, kept) in [(10, 11), (MAX_PODS, MAX_PODS + 1), (MAX_PODS + 1, 1), (10, 1)] {
            let all = pods(count);
            all.iter().for_each(|object| known.set(object));
            // Said again it is still one.
            all.iter().for_each(|object| known.set(object));
            assert_eq!(known.objects().len(), kept, "{count}");
        }
        pods(1).iter().for_each(|object| known.remove(&object.key()));
        assert_eq!(known.objects().len(), 0);
    }
}
