//! Streams behave the same in both modes: bytes, ends, half-closes, and what dropping does.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use super::*;
use crate::kernel::IoMode;
use crate::tcp::{self, DialOptions, Listener};
use crate::testing::{modes, on_core};

/// No wait in these tests is longer than this.
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn an_echo_comes_back() {
    on_pairs(|mut near, mut far| async move {
        near.write_all(b"to and fro").await.unwrap();
        let mut text = [0; 10];
        far.read_exact(&mut text).await.unwrap();
        far.write_all(&text).await.unwrap();
        let mut back = [0; 10];
        near.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"to and fro");
    });
}

#[test]
fn vectored_writes_arrive_as_one_run_of_bytes() {
    on_pairs(|mut near, mut far| async move {
        assert!(near.is_write_vectored());
        let slices = [
            IoSlice::new(b"first "),
            IoSlice::new(b""),
            IoSlice::new(b"second"),
        ];
        assert_eq!(near.write_vectored(&slices).await.unwrap(), 12);
        near.shutdown().await.unwrap();
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "first second");
    });
}

/// Bytes that repeat with no power of two, so that lost or swapped blocks show.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|position| (position % 251) as u8).collect()
}

#[test]
fn a_big_transfer_arrives_unchanged_in_both_directions_at_once() {
    const LENGTH: usize = 8 << 20;
    on_pairs(|near, far| async move {
        let (near_read, near_write) = tokio::io::split(near);
        let (far_read, far_write) = tokio::io::split(far);
        let writers = [near_write, far_write].map(|mut half| {
            spawn_local(async move {
                half.write_all(&pattern(LENGTH)).await.unwrap();
                half.shutdown().await.unwrap();
            })
        });
        let readers = [near_read, far_read].map(|mut half| {
            spawn_local(async move {
                let mut received = Vec::new();
                half.read_to_end(&mut received).await.unwrap();
                assert!(received == pattern(LENGTH), "{} bytes, or others", received.len());
            })
        });
        for task in writers.into_iter().chain(readers) {
            task.await.unwrap();
        }
    });
}

#[test]
fn reads_of_every_size_see_the_same_bytes() {
    for room in [1, 3, 2047, 2048, 2049, 20_000] {
        on_pairs(move |mut near, mut far| async move {
            let sent = pattern(50_000);
            let expected = sent.clone();
            spawn_local(async move { near.write_chunk(sent.into()).await.unwrap() });
            let mut buffer = vec![0; room];
            let mut received = Vec::new();
            while received.len() < expected.len() {
                let length = far.read(&mut buffer).await.unwrap();
                assert!(length > 0);
                received.extend_from_slice(&buffer[..length]);
            }
            assert!(received == expected);
        });
    }
}

#[test]
fn chunks_respect_their_maximum_and_end_with_none() {
    on_pairs(|mut near, mut far| async move {
        let sent = pattern(300_000);
        let expected = sent.clone();
        let writing = spawn_local(async move {
            near.write_chunk(sent.into()).await.unwrap();
            near.shutdown().await.unwrap();
            near
        });
        let mut received = Vec::new();
        for max in [1, 100, 5000, 70_000].into_iter().cycle() {
            let Some(chunk) = far.read_chunk(max).await.unwrap() else {
                break;
            };
            assert!((1..=max.min(65_536)).contains(&chunk.len()));
            received.extend_from_slice(&chunk);
        }
        assert!(received == expected);
        assert!(far.read_chunk(10).await.unwrap().is_none());
        drop(writing.await.unwrap());
    });
}

#[test]
fn many_small_chunks_are_written_in_order() {
    on_pairs(|mut near, mut far| async move {
        let expected = pattern(1_000_000);
        let whole = Bytes::from(expected.clone());
        let mut chunks: VecDeque<Bytes> = VecDeque::new();
        let mut start = 0;
        while start < whole.len() {
            let end = (start + 1 + start % 1400).min(whole.len());
            chunks.extend([whole.slice(start..end), Bytes::new()]);
            start = end;
        }
        spawn_local(async move {
            near.write_chunks(&mut chunks).await.unwrap();
            assert!(chunks.is_empty());
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
    });
}

#[test]
fn a_read_into_no_room_returns_at_once() {
    on_pairs(|mut near, _far| async move {
        assert_eq!(near.read(&mut []).await.unwrap(), 0);
    });
}

#[test]
fn bytes_written_before_a_drop_arrive_before_the_end() {
    on_pairs(|mut near, mut far| async move {
        let waits_for_an_answer = async { near.read(&mut [0; 1]).await.map(drop) };
        let _ = futures_util::poll!(Box::pin(waits_for_an_answer));
        near.write_all(b"the last words").await.unwrap();
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "the last words");
    });
}

#[test]
fn small_and_large_writes_keep_their_order() {
    on_pairs(|mut near, mut far| async move {
        let expected = pattern(200_000);
        let sent = expected.clone();
        let writing = spawn_local(async move {
            let mut rest = &sent[..];
            for size in [1, 8192, 8193, 20, 60_000, 100].into_iter().cycle() {
                let (part, after) = rest.split_at(size.min(rest.len()));
                near.write_all(part).await.unwrap();
                // An answer makes the next small write a reply.
                near.read_u8().await.unwrap();
                near.write_all(&after[..after.len().min(3)]).await.unwrap();
                rest = &after[after.len().min(3)..];
                if rest.is_empty() {
                    break;
                }
            }
            near.flush().await.unwrap();
            near
        });
        let mut received = Vec::new();
        while received.len() < expected.len() {
            received.extend_from_slice(&far.read_chunk(65_536).await.unwrap().unwrap());
            far.write_all(b"a").await.unwrap();
        }
        drop(writing.await.unwrap());
        assert!(received == expected);
    });
}

#[test]
fn after_a_half_close_the_other_direction_still_works() {
    on_pairs(|mut near, mut far| async move {
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        let mut question = String::new();
        far.read_to_string(&mut question).await.unwrap();
        far.write_all(b"answer").await.unwrap();
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        // The peer is gone; the end was sent long ago.
        near.shutdown().await.unwrap();
    });
}

#[test]
fn a_dropped_stream_with_a_read_in_flight_is_seen_as_the_end_and_its_descriptor_closed() {
    on_pairs(|mut near, mut far| async move {
        {
            let mut byte = [0];
            let mut reading = Box::pin(near.read(&mut byte));
            assert!(futures_util::poll!(&mut reading).is_pending());
        }
        // Lets the receive reach the kernel before the drop in one half of the cases.
        near.write_all(b"x").await.unwrap();
        far.read_u8().await.unwrap();
        drop(near);
        assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        // A socket that still had an owner would swallow this; a closed one answers with a reset.
        far.write_all(b"y").await.unwrap();
        let refused = async {
            while far.write_all(b"y").await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        refused.await;
    });
}

#[test]
fn a_dropped_read_future_loses_no_bytes() {
    on_pairs(|mut near, mut far| async move {
        for round in 0..20_u8 {
            {
                let mut byte = [0];
                let mut reading = Box::pin(far.read(&mut byte));
                assert!(futures_util::poll!(&mut reading).is_pending());
            }
            near.write_all(&[round]).await.unwrap();
            assert_eq!(far.read_u8().await.unwrap(), round);
        }
    });
}

#[test]
fn a_writer_waits_while_the_peer_does_not_read() {
    on_pairs(|mut near, mut far| async move {
        let block = Bytes::from(vec![1; 1 << 20]);
        let mut written = 0_usize;
        let mut writing = Box::pin(async {
            loop {
                near.write_chunk(block.clone()).await.unwrap();
                written += block.len();
                assert!(written < 1 << 30, "nothing ever made the writer wait");
            }
        });
        assert!(futures_util::poll!(&mut writing).is_pending());
        let mut left = 8 << 20;
        let reading = async {
            while left > 0 {
                left -= far.read_chunk(65_536).await.unwrap().unwrap().len().min(left);
            }
        };
        tokio::select! {
            () = reading => {}
            () = &mut writing => {}
        }
    });
}

#[test]
fn dropping_a_blocked_writer_ends_the_stream_for_its_peer() {
    on_pairs(|mut near, mut far| async move {
        {
            let mut writing = Box::pin(near.write_chunk(Bytes::from(vec![1; 64 << 20])));
            assert!(futures_util::poll!(&mut writing).is_pending());
        }
        drop(near);
        // What was written arrives, then the end or a reset, but no silence.
        while let Ok(Some(_)) = far.read_chunk(65_536).await {}
    });
}

#[test]
fn a_reset_by_the_peer_is_an_error() {
    for io in modes() {
        let std_listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = std_listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut socket, _) = std_listener.accept().unwrap();
            // Not before the dial is over, which a reset would fail instead.
            Read::read_exact(&mut socket, &mut [0; 1]).unwrap();
            SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        });
        on_core(io, move || async move {
            let mut stream = tcp::dial(io, address, &DialOptions::default()).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            let error = stream.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
        peer.join().unwrap();
    }
}

#[test]
fn a_blocking_peer_on_another_thread_gets_everything() {
    const LENGTH: usize = 3 << 20;
    for io in modes() {
        let std_listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = std_listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut socket, _) = std_listener.accept().unwrap();
            let mut received = vec![0; LENGTH];
            socket.read_exact(&mut received).unwrap();
            socket.write_all(&received).unwrap();
        });
        on_core(io, move || async move {
            let stream = tcp::dial(io, address, &DialOptions::default()).await.unwrap();
            let (mut reading, mut writing) = tokio::io::split(stream);
            let sender = spawn_local(async move { writing.write_all(&pattern(LENGTH)).await });
            let mut received = Vec::new();
            reading.read_to_end(&mut received).await.unwrap();
            sender.await.unwrap().unwrap();
            assert!(received == pattern(LENGTH));
        });
        peer.join().unwrap();
    }
}

#[test]
fn one_busy_stream_does_not_keep_others_from_moving() {
    for io in modes() {
        on_core(io, move || async move {
            let (mut source, mut sink) = pair(io).await;
            let (mut near, mut far) = pair(io).await;
            let flood = spawn_local(async move {
                let block = Bytes::from(vec![0; 1 << 20]);
                while source.write_chunk(block.clone()).await.is_ok() {}
            });
            let drain = spawn_local(async move { while let Ok(Some(_)) = sink.read_chunk(65_536).await {} });
            for _ in 0..50 {
                near.write_all(b"ping").await.unwrap();
                let mut text = [0; 4];
                far.read_exact(&mut text).await.unwrap();
            }
            drain.abort();
            flood.await.unwrap();
        });
    }
}

/// Runs `test` in every mode with two connected streams of the same core.
fn on_pairs<F, Fut>(test: F)
where
    F: Fn(Stream, Stream) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    for io in modes() {
        let test = test.clone();
        on_core(io, move || {
            let test = test.clone();
            async move {
                let (near, far) = pair(io).await;
                let test = tokio::time::timeout(DEADLINE, test(near, far));
                test.await.expect("the test ends within its deadline");
            }
        });
    }
}

async fn pair(io: IoMode) -> (Stream, Stream) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = tcp::bind_group(address, 1).unwrap().remove(0);
    let listener = Rc::new(Listener::from_std(listener, io).unwrap());
    let address = listener.local_addr().unwrap();
    let dialled = async { tcp::dial(io, address, &DialOptions::default()).await.unwrap() };
    let (near, (far, _)) = futures_util::join!(dialled, async { listener.accept().await.unwrap() });
    (near, far)
}

#[test]
fn an_abort_reaches_the_peer_as_a_reset_even_while_bytes_are_awaited() {
    on_pairs(|mut near, mut far| async move {
        let mut text = [0; 4];
        // A read that was begun and given up: in io_uring mode its receive is still in flight.
        let begun = crate::time::timeout(Duration::from_millis(1), near.read(&mut text)).await;
        assert!(begun.is_err());
        near.abort();
        let told = far.read(&mut text).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_stream_knows_its_own_address_and_takes_a_keep_alive() {
    on_pairs(|near, far| async move {
        assert!(near.local_addr().unwrap().ip().is_loopback());
        assert_ne!(near.local_addr().unwrap(), far.local_addr().unwrap());
        near.keep_alive(Duration::from_secs(30)).unwrap();
    });
}
