//! One thread's event loop: start it, pin it, spawn on it, and keep a panic inside one task.
//!
//! `server` and the demo provider start runtimes; everything else only spawns and sleeps.

use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{io, panic};

use io_uring::IoUring;
use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// Submission queue entries per ring. 1,024 holds every operation of a full core between two loop turns; larger rings
/// measured no faster.
const RING_ENTRIES: u32 = 1024;

/// A ring that was let go of is charged to its user for some more milliseconds.
const RINGS_PATIENCE: Duration = Duration::from_millis(400);
const RINGS_PAUSE: Duration = Duration::from_millis(20);

/// Whether this process's loops are to run on io_uring.
static ON_RINGS: OnceLock<bool> = OnceLock::new();

thread_local! {
    /// Whether this thread's loop runs on epoll, where descriptors must not block.
    static ON_EPOLL: Cell<bool> = const { Cell::new(false) };
}

/// Decides for the whole process, unless that is done already: io_uring where the kernel allows it and lends memory for
/// `rings` at once, epoll elsewhere. Blocks: for a start, before the loops run.
pub fn choose_driver(rings: usize) {
    ON_RINGS.get_or_init(|| {
        if !monoio::utils::detect_uring() {
            tracing::warn!("io_uring is not available here; running on epoll");
            return false;
        }
        let hold = || (0..rings).map(|_| IoUring::new(RING_ENTRIES)).collect();
        let held: io::Result<Vec<_>> = patiently(hold);
        // Whatever else is missing, such as descriptors for rings that nobody needs yet, says nothing of the workers'.
        let short = held.is_err_and(|error| is_out_of_memory(&error));
        if short {
            tracing::warn!(
                rings,
                "too little memory may be locked for io_uring (ulimit -l, LimitMEMLOCK); running on epoll"
            );
        }
        !short
    });
}

/// Runs `future` to its end on this thread: io_uring where it was chosen, and where nobody chose, if the kernel allows it;
/// epoll elsewhere.
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    if driver_name() == "io_uring" {
        match patiently(ring) {
            Ok(mut runtime) => {
                ON_EPOLL.set(false);
                return Ok(runtime.block_on(future));
            }
            Err(error) => tracing::warn!(%error, "no ring for this thread, which runs on epoll"),
        }
    }
    ON_EPOLL.set(true);
    let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES);
    Ok(builder.enable_timer().build()?.block_on(future))
}

fn ring() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let build = |ring| {
        let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring);
        builder.with_entries(RING_ENTRIES).enable_timer().build()
    };
    // A completion waits for the loop's next call into the kernel instead of interrupting the core: on two cores that
    // saves 7 % of a request's CPU, on one it costs nothing. Kernels before 5.19 refuse the flag.
    let mut cooperative = IoUring::builder();
    cooperative.setup_coop_taskrun();
    build(cooperative).or_else(|_| build(IoUring::builder()))
}

/// Tries once more for a moment where it is memory that is missing.
fn patiently<T>(make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match make() {
            Err(error) if is_out_of_memory(&error) && began.elapsed() < RINGS_PATIENCE => {
                std::thread::sleep(RINGS_PAUSE);
            }
            made => return made,
        }
    }
}

fn is_out_of_memory(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ENOMEM as i32)
}

/// Whether something failed for want of descriptors: of those that this process may have, or of the system's.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

/// What is said where there was none, and another call hid that.
pub fn out_of_descriptors() -> io::Error {
    Errno::EMFILE.into()
}

/// Whether there is none left at this moment.
pub fn lacks_descriptors() -> bool {
    std::fs::File::open("/dev/null").is_err_and(|error| is_out_of_descriptors(&error))
}

/// Which driver this process's loops run on.
pub fn driver_name() -> &'static str {
    let on_rings = ON_RINGS.get().copied();
    if on_rings.unwrap_or_else(monoio::utils::detect_uring) {
        "io_uring"
    } else {
        "epoll"
    }
}

/// Whether this thread's loop runs on epoll, where descriptors must not block.
pub(super) fn epoll() -> bool {
    ON_EPOLL.get()
}

/// Binds the calling thread to the `index`-th of the CPUs that this process may use, and tells its number. Fails
/// harmlessly where there are fewer, or the scheduler forbids it.
pub fn pin_to_core(index: usize) -> io::Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let core = (0..CpuSet::count())
        .filter(|core| allowed.is_set(*core).unwrap_or(false))
        .nth(index)
        .ok_or_else(|| io::Error::other("fewer CPUs than workers"))?;
    monoio::utils::bind_to_cpu_set([core])
        .map_err(|errno| io::Error::from_raw_os_error(errno as i32))?;
    Ok(core)
}

/// Runs a task on this thread's loop; it is not joined, so it must end by itself.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// Waits without holding up the loop.
pub async fn sleep(time: Duration) {
    monoio::time::sleep(time).await;
}

/// Waits for `future` at most `time`; `None` when the time is over. Only for futures without IO of their own in flight,
/// such as a channel's: what is over is dropped.
pub async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    monoio::time::timeout(time, future).await.ok()
}

/// Catches a panic of `task`, so that a bug costs one connection and not its core.
pub fn isolate<F: Future + ?Sized>(task: Pin<Box<F>>) -> Isolated<F> {
    Isolated { task: Some(task) }
}

/// The future of [`isolate`]: `Err(())` when the task panicked.
pub struct Isolated<F: ?Sized> {
    task: Option<Pin<Box<F>>>,
}

impl<F: Future + ?Sized> Future for Isolated<F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = self.task.as_mut() else {
            return Poll::Ready(Err(()));
        };
        // The task's state is thrown away whole after a panic, so nobody can see it half changed.
        match panic::catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => {
                self.task = None;
                Poll::Ready(Err(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_stays_in_its_task() {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let outcome = run(async {
            let broken = isolate(Box::pin(async {
                sleep(Duration::from_millis(1)).await;
                assert!(std::hint::black_box(false), "a bug");
            }))
            .await;
            (broken, isolate(Box::pin(async { 7 })).await)
        });
        panic::set_hook(hook);
        assert_eq!(outcome.ok(), Some((Err(()), Ok(7))));
    }
}
