//! Jobs that know nothing of each other, one thread each.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::error::{Error, Result};

/// Runs the jobs in their order on so many workers; the first error ends the work.
///
/// Each worker computes on one thread: a job's products are too small to be worth dividing, and
/// other jobs wait.
pub(super) fn run<T: Sync>(
    jobs: &[T],
    workers: usize,
    job: impl Fn(&T) -> Result<()> + Sync,
) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let error: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |why: Error| {
        failed.store(true, Ordering::Relaxed);
        let mut first = error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(why);
    };
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(one) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            if let Err(why) = job(one) {
                fail(why);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, jobs.len().max(1)) {
            scope.spawn(
                || match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
                    Ok(alone) => alone.install(work),
                    Err(why) => fail(Error::io("thread")(std::io::Error::other(why))),
                },
            );
        }
    });
    let error = error.into_inner().unwrap_or_else(PoisonError::into_inner);
    error.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_runs_once_whatever_the_workers() {
        for workers in [0, 1, 3, 50] {
            let done: Vec<AtomicUsize> = (0..20).map(|_| AtomicUsize::new(0)).collect();
            let jobs: Vec<usize> = (0..20).collect();
            let alone = |&at: &usize| {
                done[at].fetch_add(1, Ordering::Relaxed);
                assert_eq!(rayon::current_num_threads(), 1);
                Ok(())
            };
            run(&jobs, workers, alone).unwrap();
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
        run(&[], 2, |&(): &()| panic!("there is no job")).unwrap();
    }

    #[test]
    fn the_first_error_ends_the_work() {
        let count = AtomicUsize::new(0);
        let jobs: Vec<usize> = (0..1000).collect();
        let failed = run(&jobs, 1, |&at| {
            count.fetch_add(1, Ordering::Relaxed);
            match at {
                7 => Err(Error::NoHead { tried: Vec::new() }),
                _ => Ok(()),
            }
        });
        assert!(matches!(failed, Err(Error::NoHead { .. })));
        assert_eq!(count.load(Ordering::Relaxed), 8);
    }
}
