//! A pipe delivers every byte in order within its credit, or both sides learn that it ended.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::thread;

use futures_util::poll;

use super::*;
use crate::kernel::IoMode;
use crate::testing::{block_on, modes, on_core};

#[test]
fn bytes_arrive_in_order_and_then_the_end() {
    block_on(async {
        let (mut writer, mut reader) = pipe(1000);
        writer.write(Bytes::from_static(b"one")).await.unwrap();
        writer.write(Bytes::new()).await.unwrap();
        writer.write(Bytes::from_static(b"two")).await.unwrap();
        writer.finish();
        assert_eq!(reader.read().await.unwrap().unwrap(), "one");
        assert_eq!(reader.read().await.unwrap().unwrap(), "two");
        assert_eq!(reader.read().await, Ok(None));
        assert_eq!(reader.read().await, Ok(None));
    });
}

#[test]
fn the_writer_waits_for_credit_and_for_no_more_than_a_quarter_of_it() {
    block_on(async {
        let (mut writer, mut reader) = pipe(8);
        writer.write(Bytes::from_static(b"123456")).await.unwrap();
        let mut write = Box::pin(writer.write(Bytes::from_static(b"abcdefgh")));
        // Two bytes are free, a quarter of the credit: a part goes at once.
        assert!(poll!(&mut write).is_pending());
        assert_eq!(reader.shared.unread.load(Ordering::Relaxed), 8);
        assert_eq!(reader.read().await.unwrap().unwrap(), "123456");
        assert_eq!(poll!(&mut write), Poll::Ready(Ok(())));
        drop(write);
        assert_eq!(reader.read().await.unwrap().unwrap(), "ab");
        assert_eq!(reader.read().await.unwrap().unwrap(), "cdefgh");
    });
}

#[test]
fn chunks_larger_than_the_whole_credit_pass_in_parts() {
    block_on(async {
        let (mut writer, mut reader) = pipe(4);
        let text = Bytes::from_static(b"a chunk longer than the credit");
        let mut received = Vec::new();
        let write = async {
            writer.write(text.clone()).await.unwrap();
            writer.finish();
        };
        let read = async {
            while let Some(part) = reader.read().await.unwrap() {
                assert!(part.len() <= 4);
                received.extend_from_slice(&part);
            }
        };
        futures_util::join!(write, read);
        assert_eq!(received, text);
    });
}

#[test]
fn tiny_chunks_wait_for_places() {
    block_on(async {
        let (mut writer, mut reader) = pipe(1000);
        for _ in 0..PLACES_MIN {
            writer.write(Bytes::from_static(b"x")).await.unwrap();
        }
        let mut write = pin!(writer.write(Bytes::from_static(b"y")));
        assert!(poll!(&mut write).is_pending());
        assert_eq!(reader.read().await.unwrap().unwrap(), "x");
        assert_eq!(poll!(&mut write), Poll::Ready(Ok(())));
    });
}

#[test]
fn an_abort_overtakes_unread_bytes() {
    block_on(async {
        let (mut writer, mut reader) = pipe(100);
        writer.write(Bytes::from_static(b"unread")).await.unwrap();
        writer.abort(7);
        writer.finish();
        assert_eq!(reader.read().await, Err(PipeAborted { code: 7 }));
    });
}

#[test]
fn a_writer_dropped_before_the_end_aborts_and_after_it_does_not() {
    block_on(async {
        let (writer, mut reader) = pipe(100);
        drop(writer);
        assert_eq!(reader.read().await, Err(PipeAborted { code: 0 }));

        let (mut writer, mut reader) = pipe(100);
        writer.write(Bytes::from_static(b"all")).await.unwrap();
        writer.finish();
        drop(writer);
        assert_eq!(reader.read().await.unwrap().unwrap(), "all");
        assert_eq!(reader.read().await, Ok(None));
    });
}

#[test]
fn a_stop_reaches_writes_and_waits_and_frees_what_is_unread() {
    block_on(async {
        let (mut writer, mut reader) = pipe(4);
        let owner = Arc::new(*b"1234");
        writer
            .write(Bytes::from_owner(SharedBytes(Arc::clone(&owner))))
            .await
            .unwrap();
        let mut write = Box::pin(writer.write(Bytes::from_static(b"5")));
        assert!(poll!(&mut write).is_pending());
        reader.stop(9);
        reader.stop(10);
        assert_eq!(Arc::strong_count(&owner), 1);
        assert_eq!(write.await, Err(PipeClosed { code: 9 }));
        assert_eq!(writer.closed().await, 9);
        assert_eq!(reader.read().await, Ok(None));
    });
}

#[test]
fn one_read_takes_all_that_is_there_and_frees_its_credit() {
    block_on(async {
        let (mut writer, mut reader) = pipe(6);
        for chunk in ["ab", "cd", "ef"] {
            writer.write(Bytes::from_static(chunk.as_bytes())).await.unwrap();
        }
        let mut write = Box::pin(writer.write(Bytes::from_static(b"gh")));
        assert!(poll!(&mut write).is_pending());
        let mut chunks = reader.read_chunks().await.unwrap().unwrap();
        assert_eq!(chunks.len(), 6);
        assert_eq!(chunks.pop().unwrap(), "ab");
        write.await.unwrap();
        writer.abort(3);
        assert_eq!(reader.read_chunks().await.unwrap_err().code, 3);
    });
}

#[test]
fn what_was_written_before_the_end_is_read_before_it() {
    block_on(async {
        let (mut writer, mut reader) = pipe(100);
        writer.write(Bytes::from_static(b"last")).await.unwrap();
        writer.finish();
        assert_eq!(reader.read_chunks().await.unwrap().unwrap().len(), 4);
        assert!(reader.read_chunks().await.unwrap().is_none());
    });
}

struct SharedBytes(Arc<[u8; 4]>);

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0[..]
    }
}

#[test]
fn a_dropped_reader_stops_with_code_zero() {
    block_on(async {
        let (mut writer, reader) = pipe(4);
        {
            let mut closed = pin!(writer.closed());
            assert!(poll!(&mut closed).is_pending());
            drop(reader);
            assert_eq!(closed.await, 0);
        }
        assert_eq!(
            writer.write(Bytes::from_static(b"x")).await,
            Err(PipeClosed { code: 0 })
        );
    });
}

#[test]
fn a_sleeping_side_is_woken_from_another_thread() {
    let (mut writer, mut reader) = pipe(4);
    let sleeping = thread::spawn(move || block_on(reader.read()));
    block_on(writer.write(Bytes::from_static(b"up"))).unwrap();
    assert_eq!(sleeping.join().unwrap().unwrap().unwrap(), "up");

    let (mut writer, reader) = pipe(4);
    let sleeping = thread::spawn(move || block_on(writer.closed()));
    drop(reader);
    assert_eq!(sleeping.join().unwrap(), 0);
}

/// Two threads, chunk sizes from 1 byte to several times the credit; every byte is numbered.
fn stress(io: IoMode, credit: usize) {
    const TOTAL: usize = 400_000;
    let (writer, reader) = pipe(credit);
    let ends = std::sync::Mutex::new(Some((writer, reader)));
    let ends = Arc::new(ends);
    let exceeded = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&exceeded);
    on_core(io, move || {
        let (mut writer, mut reader) = ends.lock().unwrap().take().unwrap();
        let exceeded = Arc::clone(&seen);
        let writing = thread::spawn(move || {
            block_on(async {
                let mut sent = 0;
                let mut size = 1;
                while sent < TOTAL {
                    let end = (sent + size).min(TOTAL);
                    let chunk: Vec<u8> = (sent..end).map(|position| position as u8).collect();
                    writer.write(chunk.into()).await.unwrap();
                    sent = end;
                    size = (size * 5 + 3) % (3 * credit + 7) + 1;
                }
                writer.finish();
            });
        });
        async move {
            let mut received = 0;
            loop {
                if reader.shared.unread.load(Ordering::Relaxed) > credit {
                    exceeded.store(true, Ordering::Relaxed);
                }
                let Some(chunk) = reader.read().await.unwrap() else {
                    break;
                };
                for byte in chunk {
                    assert_eq!(byte, received as u8);
                    received += 1;
                }
            }
            assert_eq!(received, TOTAL);
            writing.join().unwrap();
        }
    });
    assert!(!exceeded.load(Ordering::Relaxed));
}

#[test]
fn every_byte_arrives_once_in_order_and_within_credit_under_stress() {
    for io in modes() {
        for credit in [7, 1000, 65_536] {
            stress(io, credit);
        }
    }
}

#[test]
fn both_sides_may_end_at_the_same_moment() {
    for round in 0..500 {
        let (mut writer, reader) = pipe(16);
        let dropping = thread::spawn(move || drop(reader));
        let outcome = block_on(async {
            for _ in 0..8 {
                writer.write(Bytes::from_static(b"12345678")).await?;
            }
            Ok::<_, PipeClosed>(())
        });
        assert_eq!(outcome, Err(PipeClosed { code: 0 }), "round {round}");
        dropping.join().unwrap();
    }
}
