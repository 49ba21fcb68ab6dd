//! One gateway process: a runtime of its own with a clock of its own, which runs only when the world lets it.
//!
//! Killing it is dropping the runtime, after as many polls as the seed says; stopping it is not running it while the
//! clocks of all others go on, and its own leaps when it goes on. Nothing that is left over happens: the port is dead
//! before the runtime is dropped. Must not know what else is in the world.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::desk::Desk;
use crate::clock;
use crate::config::Config;
use crate::gateway::simulated::Simulated;
use crate::net::Listener;
use crate::net::Stream;
use crate::net::simulated::{Act, Pipe, Port};

/// A moment of the world, in milliseconds since its beginning.
pub(super) type Moment = u64;

/// Wall time when the world begins.
const BEGAN_AT: Duration = Duration::from_hours(500_000);

/// A gateway process.
pub(super) struct Process {
    pub(super) port: Arc<Port>,
    pub(super) desk: Arc<Desk>,
    /// What its own clock says, as a moment of the world.
    pub(super) clock: Moment,
    /// How far its wall clock is off, in milliseconds.
    pub(super) wall_off: i64,
    runtime: Option<Runtime>,
    idle: Arc<Idle>,
    base: Instant,
    born: Moment,
    gateway: Arc<Mutex<Option<Simulated>>>,
    arriving: mpsc::UnboundedSender<(Stream, SocketAddr)>,
    has_ended: Arc<AtomicBool>,
}

/// Tells when a runtime has nothing more to do at this moment.
#[derive(Default)]
struct Idle {
    is_asked: AtomicBool,
    is_reached: AtomicBool,
    waker: Mutex<Option<Waker>>,
    port: Mutex<Option<Arc<Port>>>,
}

impl Idle {
    /// Called by the runtime when it is about to wait.
    fn reached(&self) {
        let has_acted = self.port.lock().unwrap().as_ref().is_some_and(|port| port.has_acted());
        if (self.is_asked.load(Ordering::Relaxed) || has_acted)
            && let Some(waker) = self.waker.lock().unwrap().take()
        {
            self.is_reached.store(true, Ordering::Relaxed);
            waker.wake();
        }
    }
}

impl Process {
    /// A process that starts at `now`.
    pub(super) fn start(number: u64, now: Moment, config: &Arc<Config>) -> Self {
        let (port, idle) = (Port::numbered(number), Arc::<Idle>::default());
        *idle.port.lock().unwrap() = Some(Arc::clone(&port));
        let on_park = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // Between two tasks the world is asked whether it goes on.
            .event_interval(1)
            .on_thread_park(move || on_park.reached())
            .build()
            .unwrap();
        let desk = Desk::of(&port);
        let (arriving, listening) = mpsc::unbounded_channel();
        let gateway = Arc::<Mutex<Option<Simulated>>>::default();
        let base = runtime.block_on(async { Instant::now() });
        let starting = {
            let (config, store, gateway) = (Arc::clone(config), Arc::clone(&desk), Arc::clone(&gateway));
            async move {
                let started = Simulated::start(config, store, Listener::simulated(listening)).await;
                *gateway.lock().unwrap() = Some(started);
            }
        };
        drop(runtime.spawn(starting));
        let has_ended = Arc::default();
        Self {
            port,
            desk,
            clock: now,
            wall_off: 0,
            runtime: Some(runtime),
            idle,
            base,
            born: now,
            gateway,
            arriving,
            has_ended,
        }
    }

    /// Lets it run until its clock says `until`, or until it has done something that the world should look at.
    pub(super) fn run(&mut self, until: Moment) {
        self.enter();
        let (idle, base, born) = (Arc::clone(&self.idle), self.base, self.born);
        let runtime = self.runtime.as_ref().unwrap();
        let at = base + Duration::from_millis(until.saturating_sub(born));
        let is_over = until <= self.clock;
        idle.is_reached.store(false, Ordering::Relaxed);
        let ran = async {
            let sleep = tokio::time::sleep_until(at);
            tokio::pin!(sleep);
            let mut is_over = is_over;
            std::future::poll_fn(|cx| {
                if idle.is_reached.swap(false, Ordering::Relaxed) {
                    return Poll::Ready(());
                }
                is_over = is_over || sleep.as_mut().poll(cx).is_ready();
                idle.is_asked.store(is_over, Ordering::Relaxed);
                *idle.waker.lock().unwrap() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            Instant::now()
        };
        let now = runtime.block_on(ran);
        *self.idle.waker.lock().unwrap() = None;
        self.clock = born + u64::try_from(now.duration_since(base).as_millis()).unwrap();
        self.leave();
    }

    /// Lets it go on for so many polls, and no further.
    pub(super) fn run_polls(&mut self, polls: usize) {
        self.enter();
        let polling = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        };
        self.runtime.as_ref().unwrap().block_on(polling);
        self.leave();
    }

    /// Lets its clock leap, as it does for one that was stopped.
    pub(super) fn leap(&mut self, now: Moment) {
        let by = Duration::from_millis(now.saturating_sub(self.clock));
        self.enter();
        self.runtime.as_ref().unwrap().block_on(tokio::time::advance(by));
        self.clock = self.clock.max(now);
        self.leave();
    }

    /// Ends it on the spot. What it has done before can be taken from its port still.
    pub(super) fn kill(&mut self) {
        self.port.die();
        self.enter();
        drop(self.gateway.lock().unwrap().take());
        drop(self.runtime.take());
        self.leave();
    }

    /// Tells it to end in order.
    pub(super) fn drain(&self) {
        let (has_ended, gateway) = (Arc::clone(&self.has_ended), Arc::clone(&self.gateway));
        self.spawn(async move {
            // One that has not started yet ends at once.
            let gateway = gateway.lock().unwrap().take();
            if let Some(gateway) = gateway {
                gateway.drain().await;
            }
            has_ended.store(true, Ordering::Relaxed);
        });
    }

    /// Whether it has ended in order.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// Runs something in it.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.enter();
        drop(self.runtime.as_ref().unwrap().spawn(work));
        self.leave();
    }

    /// Looks at the gateway, if it has started and is not being ended.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Simulated) -> T) -> Option<T> {
        self.gateway.lock().unwrap().as_ref().map(look)
    }

    /// A connection for its listener. Answers the pipe, or `None` if nobody listens.
    pub(super) fn arrive(&self, pipe: &Arc<Pipe>, peer: SocketAddr) -> bool {
        let end = pipe.end_at(&self.port);
        match self.arriving.send((Stream::Simulated(end), peer)) {
            Ok(()) => true,
            Err(refused) => {
                self.enter();
                drop(refused);
                self.leave();
                false
            }
        }
    }

    /// What it has done on its network.
    pub(super) fn take_acts(&self) -> Vec<Act> {
        self.port.take_acts()
    }

    fn enter(&self) {
        Port::run_by(Some(&self.port));
        let since = i64::try_from(self.clock).unwrap() + self.wall_off;
        let wall =
            SystemTime::UNIX_EPOCH + BEGAN_AT + Duration::from_millis(u64::try_from(since.max(0)).unwrap());
        clock::simulated::WALL.set(Some(wall));
    }

    #[expect(clippy::unused_self, reason = "the other half of `enter`")]
    fn leave(&self) {
        Port::run_by(None);
        clock::simulated::WALL.set(None);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
