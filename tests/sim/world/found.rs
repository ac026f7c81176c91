//! Faults put in on purpose, each found by the property that is meant for it.

use super::World;
use super::fault::Fault;
use crate::seeds::must_find;

/// Seeds in which a fault put in on purpose must be found.
const FAULT_SEEDS: u64 = 100;

fn finds(fault: Fault, words: &str) {
    must_find(FAULT_SEEDS, words, |seed| {
        World::new(seed, Some(fault)).run();
    });
}

#[test]
fn a_world_finds_a_write_that_is_acknowledged_too_early() {
    finds(Fault::AcknowledgedTooEarly, "the acknowledged write of");
}

#[test]
fn a_world_finds_a_control_that_counts_from_an_old_disk() {
    finds(Fault::NeverRaised, "has not the last change");
}

#[test]
fn a_world_finds_an_edge_that_goes_back() {
    finds(Fault::OldTaken, "generation goes back");
}

#[test]
fn a_world_finds_a_steering_that_forgets_who_drains() {
    finds(Fault::DrainingIgnored, "goes to a draining replica");
}

#[test]
fn a_world_finds_a_post_that_is_sent_twice() {
    finds(Fault::PostRetried, "a POST, reached origins");
}

#[test]
fn a_world_finds_a_retry_of_what_was_answered() {
    finds(Fault::AnsweredRetried, "is answered twice");
}

#[test]
fn a_world_finds_a_request_for_the_wrong_replica() {
    finds(Fault::HostsIgnored, "that does not serve");
}

#[test]
fn a_world_finds_a_connector_that_tells_one_edge_alone_what_it_serves() {
    finds(Fault::HostsToldOnce, "after all troubles");
}

#[test]
fn a_world_finds_a_request_that_never_ends() {
    finds(Fault::LossForgotten, "has not ended after");
}

#[test]
fn a_world_finds_a_request_that_is_given_up_too_early() {
    finds(Fault::NeverRetried, "had a way through replicas");
}
