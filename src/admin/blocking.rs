//! Work that waits for a disk or stretches a passphrase: done by a thread of its own, one piece after the other, so
//! that the admin port goes on answering meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::{io, thread};

use futures_channel::oneshot;

use super::answer::Denial;

type Job = Box<dyn FnOnce() + Send>;

/// Hands work to the thread; it ends with the last handle.
#[derive(Clone)]
pub(super) struct Blocking(Sender<Job>);

impl Blocking {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, waiting) = channel::<Job>();
        let work = move || {
            for job in waiting {
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a change was lost to a bug");
                }
            }
        };
        thread::Builder::new()
            .name("admin-files".into())
            .spawn(work)?;
        Ok(Self(jobs))
    }

    /// Runs `job` there and waits for what it comes to.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Denial> {
        let (done, result) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody may be waiting any more; the work is done all the same.
            let _ = done.send(job());
        });
        let lost = || Denial::new(500, "The change was lost to a bug");
        self.0.send(job).map_err(|_| lost())?;
        result.await.map_err(|_| lost())
    }
}
