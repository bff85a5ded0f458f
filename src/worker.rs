//! What one core owns while it serves: the view of keys and configuration, connections to providers, deadlines, ids.
//!
//! `server` makes one per thread; `connection` and `exchange` borrow it. Nothing in it is shared with another core
//! except the key snapshot (read through arc-swap) and the counters in `Shared`.

mod successor;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use crate::config::Config;
use crate::http::{Head, HeadLimits, Name, RequestLine};
use crate::keys::{Held, KeyRecord, KeyStore, Reader};
use crate::limits::{AuthBrake, KeyLimits};
use crate::memory::MemoryStore;
use crate::metrics::{CoreMetrics, Metrics};
use crate::net::Deadlines;
use crate::plan::Plan;
use crate::record::RequestId;
use crate::secret::Secret;
use crate::traces::{Context, Ids, Tracer};
use crate::upstream::Upstreams;
use crate::usage::Recorder;

pub use successor::Successor;

/// How often idle upstream connections are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Descriptors that are not callers' or providers'.
const DESCRIPTORS_RESERVED: u64 = 256;

/// What all cores see.
#[derive(Default)]
pub struct Shared {
    /// Callers' connections that are open.
    pub connections: AtomicUsize,
    /// Those of them that are read to their end behind a refusal.
    pub lingering: AtomicUsize,
    /// Connections lost to a bug of ours.
    pub panics: AtomicU64,
    /// Set once the router goes down.
    pub draining: AtomicBool,
    /// The process that serves on the same sockets next.
    pub successor: Successor,
    /// What limited keys have used.
    pub key_limits: KeyLimits,
    /// Where wrong keys come from.
    pub auth_brake: AuthBrake,
    /// Changes of the sealed file that callers' requests wait for.
    pub key_edits: Arc<AtomicUsize>,
    /// What each core has counted.
    pub metrics: Metrics,
    /// Where spans go, where exchanges are traced.
    pub tracer: Option<Tracer>,
}

impl Shared {
    /// Counts a connection in that lingers; none if `most` do already.
    pub fn linger(&self, most: usize) -> Option<Lingering<'_>> {
        let lingering = Lingering(&self.lingering);
        let before = self.lingering.fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(lingering)
    }
}

/// What ties a core to the rest of the process.
pub struct Ties {
    /// What all cores see.
    pub shared: Arc<Shared>,
    /// The keys.
    pub keys: KeyStore,
    /// The vaults.
    pub memory: MemoryStore,
    /// What this core counts.
    pub metrics: Arc<CoreMetrics>,
    /// Where this core's requests are counted by key.
    pub usage: Recorder,
}

/// One core's state.
pub struct Worker {
    /// The configuration as it runs.
    pub config: Arc<Config>,
    /// Routing table and origins, made from the configuration.
    pub plan: Rc<Plan>,
    /// Connections to providers.
    pub upstreams: Upstreams,
    /// The wheel of this core.
    pub deadlines: Rc<Deadlines>,
    /// What all cores see.
    pub shared: Arc<Shared>,
    /// The key store, for its state; requests go through the reader.
    pub keys: KeyStore,
    /// Where requests are counted.
    pub usage: Rc<Recorder>,
    /// The vaults.
    pub memory: MemoryStore,
    /// Callers at once over all cores: what is configured, as far as there are descriptors for it.
    pub connections_max: usize,
    /// What this core counts.
    pub metrics: Arc<CoreMetrics>,
    reader: Rc<RefCell<Reader>>,
    ids: Rc<RequestIds>,
    trace_ids: Rc<Ids>,
    /// Set once another configuration is in use on this core.
    retired: Cell<bool>,
    /// Tokens that were made here for one request each, and whose they are.
    passes: RefCell<Vec<(Secret, Arc<KeyRecord>)>>,
    models: Models,
}

impl Worker {
    /// Puts a core's state together.
    pub fn new(
        config: Arc<Config>,
        plan: Rc<Plan>,
        upstreams: Upstreams,
        deadlines: Rc<Deadlines>,
        ties: Ties,
        id_prefix: u64,
    ) -> Self {
        let Ties {
            shared,
            keys,
            memory,
            metrics,
            usage,
        } = ties;
        let reader = Rc::new(RefCell::new(keys.reader()));
        Self {
            connections_max: connections_max(&config),
            metrics,
            config,
            plan,
            upstreams,
            deadlines,
            shared,
            keys,
            usage: Rc::new(usage),
            memory,
            reader,
            ids: Rc::new(RequestIds::new(id_prefix)),
            trace_ids: Rc::new(Ids::new(id_prefix)),
            retired: Cell::new(false),
            passes: RefCell::default(),
            models: Models::default(),
        }
    }

    /// The state that goes on in this one's place, with another configuration.
    pub fn successor(&self, config: Arc<Config>, plan: Rc<Plan>, upstreams: Upstreams) -> Self {
        self.retired.set(true);
        Self {
            connections_max: connections_max(&config),
            metrics: self.metrics.clone(),
            config,
            plan,
            upstreams,
            deadlines: self.deadlines.clone(),
            shared: self.shared.clone(),
            reader: self.reader.clone(),
            keys: self.keys.clone(),
            usage: self.usage.clone(),
            memory: self.memory.clone(),
            ids: self.ids.clone(),
            trace_ids: self.trace_ids.clone(),
            retired: Cell::new(false),
            passes: RefCell::default(),
            models: Models::default(),
        }
    }

    /// The keys as they are now.
    pub fn snapshot(&self) -> Held {
        self.reader.borrow_mut().get()
    }

    /// An exchange's place in its caller's trace, or in a new one; none where nothing is traced.
    pub fn trace(&self, head: &Head<RequestLine>, bytes: &[u8]) -> Option<Context> {
        self.shared.tracer.as_ref()?;
        // Of two nobody can tell which is the caller's.
        let mut stated = head.all(Name::Traceparent);
        let parent = stated.next().filter(|_| stated.next().is_none());
        let parent = parent.map(|field| field.value(bytes));
        Some(Context::new(parent, &self.trace_ids))
    }

    /// Lets one request in as `record`, if it comes with `token`: for requests of the process itself.
    pub fn let_in(&self, token: Secret, record: Arc<KeyRecord>) {
        self.passes.borrow_mut().push((token, record));
    }

    /// Whose one request this is.
    pub fn take_pass(&self, token: &[u8]) -> Option<Arc<KeyRecord>> {
        let mut passes = self.passes.borrow_mut();
        if passes.is_empty() {
            return None;
        }
        let token = Secret::new(token);
        let at = passes.iter().position(|(known, _)| *known == token)?;
        Some(passes.swap_remove(at).1)
    }

    /// A model's name, to be kept with what is known of an exchange.
    pub fn model(&self, name: &[u8]) -> Arc<str> {
        self.models.shared(name)
    }

    /// A new exchange's id.
    pub fn next_request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// Whether the router is going down.
    pub fn draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Whether connections end behind their exchange: because the router goes down, because another process is there for
    /// new ones (and has their vaults before this one drains), or because another configuration is.
    pub fn closes_connections(&self) -> bool {
        self.retired.get() || self.draining() || self.shared.successor.serves()
    }

    /// Counts a request in that goes to a provider; none if there are too many already.
    pub fn begin(&self) -> Option<InFlight<'_>> {
        let in_flight = InFlight(&self.metrics);
        let before = self.metrics.in_flight.fetch_add(1, Ordering::Relaxed);
        (before < self.config.limits.in_flight_max).then_some(in_flight)
    }

    /// The configured limits of a message head.
    pub fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            head_bytes_max: self.config.limits.head_bytes_max,
            fields_max: self.config.limits.headers_max,
            target_bytes_max: self.config.limits.target_bytes_max,
        }
    }

    /// Closes old idle upstream connections for as long as this state is in use.
    pub async fn keep_upstreams(self: Rc<Self>) {
        // A retired one is in use by the connections that began with it.
        while !self.retired.get() || Rc::strong_count(&self) > 1 {
            crate::net::sleep(SWEEP_INTERVAL).await;
            self.upstreams.sweep(std::time::Instant::now());
            if !self.retired.get() {
                crate::net::trim();
                let idle = self.upstreams.idle_count();
                self.metrics.idle_upstream.store(idle, Ordering::Relaxed);
            }
        }
    }
}

/// A request that is with a provider, for as long as this lives.
pub struct InFlight<'w>(&'w CoreMetrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that lingers, for as long as this lives.
pub struct Lingering<'w>(&'w AtomicUsize);

impl Drop for Lingering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Dials that are under way at once, where there are many descriptors: each needs one more until it is through.
const DIALS_AT_ONCE: u64 = 2048;

/// A caller's connection may need a second one, to its provider, and a third descriptor while that is dialled; files,
/// logs and rings need some besides. Beyond that, a caller would be accepted only to be failed.
pub fn connections_max(config: &Config) -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let free = descriptors - (descriptors / 4).min(DESCRIPTORS_RESERVED);
    let fits = (free / 3).max(free.saturating_sub(DIALS_AT_ONCE) / 2);
    let fits = usize::try_from(fits).unwrap_or(usize::MAX);
    config.limits.connections_max.min(fits)
}

/// The models named last, because records keep names for long after their exchanges, and most exchanges name the same
/// few.
#[derive(Default)]
struct Models(RefCell<[Option<Arc<str>>; 16]>);

impl Models {
    fn shared(&self, name: &[u8]) -> Arc<str> {
        let mut models = self.0.borrow_mut();
        // Names of one family differ at their ends and in length.
        let last = name.last().copied().unwrap_or_default();
        let place = (name.len() + usize::from(last)) % models.len();
        match &models[place] {
            Some(known) if known.as_bytes() == name => known.clone(),
            _ => {
                let name = String::from_utf8_lossy(name);
                models[place].insert(name.into()).clone()
            }
        }
    }
}

/// Ids that are unique over cores and restarts: a random prefix per core, then a count.
struct RequestIds {
    prefix: u64,
    count: Cell<u32>,
}

impl RequestIds {
    fn new(prefix: u64) -> Self {
        Self {
            prefix,
            count: Cell::new(0),
        }
    }

    fn next(&self) -> RequestId {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        RequestId::new(self.prefix, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_the_one_that_was_named_whoever_shares_its_place() {
        let models = Models::default();
        let names: Vec<String> = (0..100).map(|n| format!("model-{n}")).collect();
        for name in names.iter().chain(&names) {
            let (first, again) = (
                models.shared(name.as_bytes()),
                models.shared(name.as_bytes()),
            );
            assert_eq!(*first, **name);
            assert!(Arc::ptr_eq(&first, &again));
        }
        assert_eq!(*models.shared(b""), *"");
    }

    #[test]
    fn so_many_linger_and_no_more() {
        let shared = Shared::default();
        let first = shared.linger(2);
        let second = shared.linger(2);
        assert!(first.is_some() && second.is_some());
        for _ in 0..3 {
            assert!(shared.linger(2).is_none());
        }
        drop(first);
        assert!(shared.linger(2).is_some());
    }

    #[test]
    fn ids_differ_and_have_one_length() {
        let ids = RequestIds::new(7);
        assert_eq!(ids.next().as_str(), "000000000000000700000000");
        assert_eq!(ids.next().as_str(), "000000000000000700000001");
    }
}
