//! Cores start in both modes, run side by side, and make their end and their panics visible.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::testing::modes;

#[test]
fn every_core_runs_main_with_its_own_context_and_thread_name() {
    for io in modes() {
        let (sender, seen) = mpsc::channel();
        let cores = Cores::spawn(3, io, "unit", move |context: CoreContext| {
            let name = thread::current().name().map(str::to_owned);
            sender.send((context, name)).unwrap();
            async {}
        })
        .unwrap();
        cores.wait().unwrap();
        let seen: Vec<_> = seen.into_iter().take(3).collect();
        let ids: BTreeSet<_> = seen.iter().map(|(context, _)| context.id.0).collect();
        assert_eq!(ids, BTreeSet::from([0, 1, 2]));
        for (context, name) in seen {
            assert_eq!((context.count, context.io), (3, io));
            assert_eq!(name, Some(format!("unit-{}", context.id)));
        }
    }
}

#[test]
fn each_core_is_pinned_to_one_allowed_cpu() {
    let allowed = Cpus::allowed();
    // The other way round, so that the order is seen to count on a machine with two or more.
    let chosen = Cpus::new(
        (0..allowed.len())
            .rev()
            .filter_map(|index| allowed.of_core(index)),
    )
    .unwrap();
    for (cpus, is_chosen) in [(&allowed, false), (&chosen, true)] {
        let (sender, seen) = mpsc::channel();
        let main = move |context: CoreContext| {
            sender.send((context.id, Cpus::allowed())).unwrap();
            async {}
        };
        let cores = if is_chosen {
            Cores::spawn_on(cpus, 2, IoMode::Portable, "pin", main)
        } else {
            Cores::spawn(2, IoMode::Portable, "pin", main)
        };
        cores.unwrap().wait().unwrap();
        for (id, found) in seen.into_iter().take(2) {
            let wanted = cpus.of_core(usize::from(id.0)).unwrap();
            assert_eq!(found, Cpus::new([wanted]).unwrap());
        }
    }
}

#[test]
fn local_tasks_timers_and_sockets_of_tokio_work_in_both_modes() {
    for io in modes() {
        let cores = Cores::spawn(1, io, "tokio", |_| async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accepted = spawn_local(async move { listener.accept().await.map(drop) });
            tokio::net::TcpStream::connect(address).await.unwrap();
            accepted.await.unwrap().unwrap();
            let never = tokio::time::timeout(Duration::from_millis(1), pending::<()>()).await;
            assert!(never.is_err());
        });
        cores.unwrap().wait().unwrap();
    }
}

#[test]
fn a_panic_in_one_main_is_an_error_naming_the_core_while_others_run_on() {
    for io in modes() {
        let cores = Cores::spawn(2, io, "panic", |context| async move {
            if context.id == CoreId(1) {
                panic!("deliberate, by core {}", context.id);
            }
            pending().await
        })
        .unwrap();
        match cores.wait() {
            Err(CoreError::Panicked {
                core: CoreId(1),
                message,
            }) => assert_eq!(message, "deliberate, by core 1"),
            other => panic!("unexpected end: {other:?}"),
        }
    }
}

#[test]
fn finished_resolves_on_another_runtime() {
    for io in modes() {
        let (release, released) = tokio::sync::watch::channel(false);
        let cores = Cores::spawn(2, io, "finish", move |_| {
            let mut released = released.clone();
            async move {
                released.wait_for(|released| *released).await.unwrap();
            }
        })
        .unwrap();
        let owner = tokio::runtime::Builder::new_current_thread().build().unwrap();
        owner.block_on(async {
            let mut finished = Box::pin(cores.finished());
            assert!(futures_util::poll!(&mut finished).is_pending());
            release.send_replace(true);
            finished.await.unwrap();
            // A second wait sees the same end.
            cores.finished().await.unwrap();
        });
    }
}

#[test]
fn no_cores_and_too_many_cores_are_refused() {
    for asked in [0, CORES_MAX + 1] {
        let refused = Cores::spawn(asked, IoMode::Portable, "none", |_| async {});
        assert!(matches!(refused, Err(CoreError::Count { asked: number }) if number == asked));
    }
}
