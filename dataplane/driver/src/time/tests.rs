//! Timers fire in order, not early, can be moved and taken back, in both modes.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;

use tokio::task::spawn_local;

use super::*;
use crate::testing::{modes, on_core};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(600);

fn on_each_mode<F, Fut>(main: F)
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    for io in modes() {
        on_core(io, main.clone());
    }
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_not_early() {
    on_each_mode(|| async {
        let (started, order) = (Instant::now(), Rc::new(RefCell::new(Vec::new())));
        let tasks = [3, 1, 2].map(|number| {
            let order = Rc::clone(&order);
            spawn_local(async move {
                sleep(SHORT * number).await;
                order.borrow_mut().push(number);
                started.elapsed() + Duration::from_millis(2) >= SHORT * number
            })
        });
        for task in tasks {
            assert!(task.await.unwrap(), "early");
        }
        assert_eq!(*order.borrow(), [1, 2, 3]);
    });
}

#[test]
fn a_timeout_ends_what_does_not_and_lets_through_what_does() {
    on_each_mode(|| async {
        assert_eq!(timeout(SHORT, pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(LONG, async { 7 }).await, Ok(7));
        assert_eq!(timeout(Duration::MAX, async { 7 }).await, Ok(7));
        let slow = async {
            sleep(SHORT).await;
            8
        };
        assert_eq!(timeout(LONG, slow).await, Ok(8));
    });
}

#[test]
fn a_sleep_moves_both_ways_also_after_it_has_fired() {
    on_each_mode(|| async {
        let mut sleeping = sleep(LONG);
        assert_eq!(timeout(SHORT, &mut sleeping).await, Err(Elapsed));
        sleeping.reset(now() + SHORT);
        (&mut sleeping).await;
        sleeping.reset(now() + LONG);
        assert_eq!(timeout(SHORT, &mut sleeping).await, Err(Elapsed));
        sleeping.reset(now() + SHORT);
        assert_eq!(timeout(LONG, &mut sleeping).await, Ok(()));
    });
}

#[test]
fn an_interval_ticks_at_once_and_then_regularly() {
    on_each_mode(|| async {
        let (started, mut ticks) = (Instant::now(), interval(SHORT));
        for _ in 0..4 {
            ticks.tick().await;
        }
        assert!(started.elapsed() + Duration::from_millis(4) >= SHORT * 3);
    });
}

#[test]
fn a_thousand_timers_come_and_go() {
    on_each_mode(|| async {
        let tasks: Vec<_> = (0..1000_u32)
            .map(|number| {
                spawn_local(async move {
                    let limit = Duration::from_micros(u64::from(number) * 37 % 20_000);
                    let long = sleep(LONG);
                    timeout(limit, long).await
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Err(Elapsed));
        }
    });
}
