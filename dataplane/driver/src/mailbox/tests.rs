//! A mailbox loses nothing, keeps each sender's order, and wakes a sleeping receiver once per batch.

use std::sync::atomic::AtomicUsize;
use std::task::{Wake, Waker};
use std::thread;

use super::*;
use crate::kernel::IoMode;
use crate::testing::{block_on, modes, on_core};

#[test]
fn items_arrive_in_order_and_none_after_the_last_sender() {
    let (sender, mut receiver) = mailbox(4);
    let second = sender.clone();
    sender.try_send(1).unwrap();
    drop(sender);
    second.try_send(2).unwrap();
    drop(second);
    block_on(async {
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(receiver.recv().await, Some(2));
        assert_eq!(receiver.recv().await, None);
        assert_eq!(receiver.recv().await, None);
    });
}

#[test]
fn a_full_mailbox_gives_the_item_back() {
    let (sender, mut receiver) = mailbox(2);
    sender.try_send("a").unwrap();
    sender.try_send("b").unwrap();
    assert_eq!(sender.try_send("c"), Err(Full("c")));
    assert_eq!(block_on(receiver.recv()), Some("a"));
    sender.try_send("c").unwrap();
}

#[test]
fn a_dropped_receiver_frees_what_is_queued_and_refuses_more() {
    let (sender, receiver) = mailbox(2);
    let item = Arc::new(());
    sender.try_send(Arc::clone(&item)).unwrap();
    drop(receiver);
    assert_eq!(Arc::strong_count(&item), 1);
    assert!(sender.try_send(item).is_err());
}

#[test]
fn recv_many_takes_a_batch_up_to_its_maximum() {
    let (sender, mut receiver) = mailbox(8);
    for number in 0..5 {
        sender.try_send(number).unwrap();
    }
    drop(sender);
    block_on(async {
        let mut batch = Vec::new();
        assert_eq!(receiver.recv_many(&mut batch, 0).await, 0);
        assert_eq!(receiver.recv_many(&mut batch, 3).await, 3);
        assert_eq!(receiver.recv_many(&mut batch, 3).await, 2);
        assert_eq!(receiver.recv_many(&mut batch, 3).await, 0);
        assert_eq!(batch, [0, 1, 2, 3, 4]);
    });
}

struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_batch_wakes_a_sleeping_receiver_once_and_a_busy_one_never() {
    let (sender, mut receiver) = mailbox(16);
    let wakes = Arc::new(CountingWaker(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    assert!(receiver.poll_recv(&mut cx).is_pending());
    for number in 0..8 {
        sender.try_send(number).unwrap();
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(receiver.poll_recv(&mut cx).is_ready());
    sender.try_send(8).unwrap();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn the_last_sender_wakes_a_sleeping_receiver() {
    let (sender, mut receiver) = mailbox::<u8>(1);
    let sleeping = thread::spawn(move || block_on(receiver.recv()));
    drop(sender);
    assert_eq!(sleeping.join().unwrap(), None);
}

/// Threads push into a small mailbox as fast as they can while a core receives: every item arrives once,
/// in its sender's order, and the receiver is never left asleep.
fn stress(io: IoMode, capacity: usize) {
    const SENDERS: u32 = 3;
    const ITEMS: u32 = 20_000;
    on_core(io, move || async move {
        let (sender, mut receiver) = mailbox(capacity);
        for number in 0..SENDERS {
            let sender = sender.clone();
            thread::spawn(move || {
                for item in 0..ITEMS {
                    let mut next = (number, item);
                    while let Err(Full(back)) = sender.try_send(next) {
                        next = back;
                        thread::yield_now();
                    }
                }
            });
        }
        drop(sender);
        let mut expected = [0; SENDERS as usize];
        let mut batch = Vec::new();
        while receiver.recv_many(&mut batch, 64).await > 0 {
            for (number, item) in batch.drain(..) {
                let expected: &mut u32 = &mut expected[number as usize];
                assert_eq!(*expected, item);
                *expected += 1;
            }
        }
        assert_eq!(expected, [ITEMS; SENDERS as usize]);
    });
}

#[test]
fn nothing_is_lost_under_stress() {
    for io in modes() {
        for capacity in [1, 2, 256] {
            stress(io, capacity);
        }
    }
}
