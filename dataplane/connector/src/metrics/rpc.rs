//! Calls on control streams and RPC streams, by method: how many, how many failed, how long they took.

use std::time::Duration;

use super::Counter;

/// Upper bounds of the latency histogram, in seconds.
pub(crate) const LATENCY_BUCKETS: [f64; 5] = [0.05, 0.15, 0.45, 1.35, 4.05];

/// A call of ours, or one of the edge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RpcMethod {
    RegisterConnection,
    UnregisterConnection,
    UpdateLocalConfiguration,
    UpdateOriginHealth,
    UpdateConfiguration,
    RegisterUdpSession,
    UnregisterUdpSession,
}

impl RpcMethod {
    /// All of them; [`Self::place`] is the position here.
    pub(crate) const ALL: [Self; 7] = [
        Self::RegisterConnection,
        Self::UnregisterConnection,
        Self::UpdateLocalConfiguration,
        Self::UpdateOriginHealth,
        Self::UpdateConfiguration,
        Self::RegisterUdpSession,
        Self::UnregisterUdpSession,
    ];

    /// Who makes the call.
    pub(crate) const fn side(self) -> &'static str {
        match self {
            Self::RegisterConnection
            | Self::UnregisterConnection
            | Self::UpdateLocalConfiguration
            | Self::UpdateOriginHealth => "client",
            Self::UpdateConfiguration | Self::RegisterUdpSession | Self::UnregisterUdpSession => "server",
        }
    }

    /// Labels `handler` and `method`, as cloudflared has them.
    pub(crate) const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::RegisterConnection => ("registration", "register_connection"),
            Self::UnregisterConnection => ("registration", "unregister_connection"),
            Self::UpdateLocalConfiguration => ("registration", "update_local_configuration"),
            Self::UpdateOriginHealth => ("registration", "update_origin_health"),
            Self::UpdateConfiguration => ("config", "update_configuration"),
            Self::RegisterUdpSession => ("session", "register_udp_session"),
            Self::UnregisterUdpSession => ("session", "unregister_udp_session"),
        }
    }

    const fn place(self) -> usize {
        self as usize
    }
}

/// Calls of one method.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) operations: Counter,
    pub(crate) failures: Counter,
    /// Calls by latency bucket, the last one for everything above.
    pub(crate) buckets: [Counter; LATENCY_BUCKETS.len() + 1],
    pub(crate) micros: Counter,
}

/// Calls of all methods.
#[derive(Debug, Default)]
pub(crate) struct RpcMetrics([Calls; RpcMethod::ALL.len()]);

impl RpcMetrics {
    /// Counts a call that has ended.
    pub(crate) fn ended(&self, method: RpcMethod, took: Duration, has_failed: bool) {
        let calls = self.of(method);
        calls.operations.add(1);
        calls.failures.add(u64::from(has_failed));
        calls
            .micros
            .add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let seconds = took.as_secs_f64();
        let place = LATENCY_BUCKETS
            .iter()
            .take_while(|bound| seconds > **bound)
            .count();
        calls.buckets[place].add(1);
    }

    /// The calls of one method.
    pub(crate) fn of(&self, method: RpcMethod) -> &Calls {
        &self.0[method.place()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_at_its_method_and_in_the_first_bucket_that_holds_it() {
        let metrics = RpcMetrics::default();
        for (at, method) in RpcMethod::ALL.into_iter().enumerate() {
            assert_eq!(method.place(), at);
        }
        for (millis, failed) in [(50, false), (51, true), (5_000, false)] {
            metrics.ended(
                RpcMethod::UpdateConfiguration,
                Duration::from_millis(millis),
                failed,
            );
        }
        let calls = metrics.of(RpcMethod::UpdateConfiguration);
        assert_eq!((calls.operations.get(), calls.failures.get()), (3, 1));
        assert_eq!(calls.buckets.each_ref().map(Counter::get), [1, 1, 0, 0, 0, 1]);
        assert_eq!(calls.micros.get(), 5_101_000);
        assert_eq!(metrics.of(RpcMethod::RegisterConnection).operations.get(), 0);
    }
}
