//! Two ways to the same end, the second a little later: what RFC 8305 calls happy eyeballs, for addresses of
//! two families.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use adit_driver::time::sleep;

/// Head start of the resolver's first family; Go's dialler gives the same.
pub(crate) const HEAD_START: Duration = Duration::from_millis(300);

/// Splits addresses into those of the first one's family and the others, each in its order.
pub(crate) fn by_family(addresses: Vec<SocketAddr>) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == is_v6)
}

/// The first success. `second` begins after `head_start`, or when `first` has failed. If both fail, the
/// failure of `first`.
pub(crate) async fn race<T, E>(
    first: impl Future<Output = Result<T, E>>,
    second: impl Future<Output = Result<T, E>>,
    head_start: Duration,
) -> Result<T, E> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let early = tokio::select! {
        biased;
        done = &mut first => Some(done),
        () = sleep(head_start) => None,
    };
    let failure = match early {
        Some(Ok(won)) => return Ok(won),
        Some(Err(failure)) => failure,
        None => tokio::select! {
            biased;
            done = &mut first => match done {
                Ok(won) => return Ok(won),
                Err(failure) => failure,
            },
            done = &mut second => {
                return match done {
                    Ok(won) => Ok(won),
                    Err(_) => first.await,
                };
            }
        },
    };
    second.await.map_err(|_| failure)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_silent_first_way_does_not_hold_up_the_second() {
        let won: Result<_, &str> = race(pending(), ready(Ok(2)), SOON).await;
        assert_eq!(won, Ok(2));
    }

    #[tokio::test]
    async fn a_failed_first_way_gives_way_at_once() {
        let won = race(ready(Err("first")), ready(Ok(2)), Duration::MAX).await;
        assert_eq!(won, Ok(2));
        let lost: Result<(), _> = race(ready(Err("first")), ready(Err("second")), Duration::MAX).await;
        assert_eq!(lost, Err("first"));
    }

    #[tokio::test]
    async fn the_first_way_wins_if_it_can() {
        let won: Result<_, &str> = race(ready(Ok(1)), pending(), SOON).await;
        assert_eq!(won, Ok(1));
        let slow = async {
            sleep(20 * SOON).await;
            Ok(1)
        };
        assert_eq!(race(slow, ready(Err("second")), SOON).await, Ok(1));
    }

    #[test]
    fn addresses_are_split_by_the_family_of_the_first() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let (first, second) = by_family(of(&["[::1]:1", "127.0.0.1:1", "[::2]:1"]));
        assert_eq!(
            (first, second),
            (of(&["[::1]:1", "[::2]:1"]), of(&["127.0.0.1:1"]))
        );
    }
}
