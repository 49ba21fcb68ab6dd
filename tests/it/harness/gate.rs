//! Something to wait at until the test says go.

use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// A gate that a reply of the upstream stops at. It opens when the test opens it, or ends.
pub(crate) struct Gate(Latch);

/// The side of a gate that waits.
#[derive(Clone)]
pub(crate) struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn shut() -> Self {
        Self(Latch(Arc::default()))
    }

    pub(crate) fn open(&self) {
        let (is_open, bell) = &*self.0.0;
        *is_open.lock().unwrap() = true;
        bell.notify_all();
    }

    pub(crate) fn latch(&self) -> Latch {
        self.0.clone()
    }
}

impl Latch {
    pub(crate) fn wait(&self) {
        let (is_open, bell) = &*self.0;
        drop(bell.wait_timeout_while(is_open.lock().unwrap(), PATIENCE, |is_open| !*is_open).unwrap());
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}
