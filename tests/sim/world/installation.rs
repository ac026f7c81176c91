//! Control among its edges: cables that are laid and break, and what must hold of routes.

use std::net::IpAddr;

use super::World;
use super::cable::{Cable, ToControl};
use super::clock::ms;
use super::control::{Control, Write};
use super::{CONVERGED, edge_address};

/// Where control runs.
pub(super) const CONTROL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 2, 0, 1));

impl World {
    /// Does what is due between edges and control.
    pub(super) fn step_control(&mut self) {
        let now = self.now;
        if self.control_at.take_if(|at| *at <= now).is_some() {
            self.control = Some(Control::start(&self.disk, now, self.fault));
            self.check_acknowledged();
        }
        if let Some(control) = &mut self.control {
            control.handle_timeout(now, &mut self.disk, &mut self.cables, &mut self.ledger);
        }
        for index in 0..self.edges.len() {
            self.dial_control(index);
            while let Some(message) = self.cables[index].as_mut().and_then(|cable| cable.for_edge(now)) {
                self.edges[index].handle_control(now, message, &mut self.ledger);
            }
            while let Some(message) = self.cables[index]
                .as_mut()
                .and_then(|cable| cable.for_control(now))
            {
                if let Some(control) = &mut self.control {
                    control.handle_message(now, index, message, &mut self.cables, &mut self.ledger);
                }
            }
        }
    }

    /// Puts what edges have said on their cables, and checks what they hold.
    pub(super) fn settle_control(&mut self) {
        let now = self.now;
        for index in 0..self.edges.len() {
            let is_open = self.network.is_open(edge_address(index, 0).ip(), CONTROL);
            let Some(cable) = &mut self.cables[index] else {
                continue;
            };
            for message in self.edges[index].tie.outbox.drain(..) {
                cable.tell_control(now, message);
            }
            cable.note_path(now, is_open);
            if cable.is_broken(now) {
                self.break_cable(index);
            }
        }
        self.check_converged();
    }

    fn dial_control(&mut self, index: usize) {
        let now = self.now;
        let edge = &mut self.edges[index];
        if edge.tie.dial_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let is_open = self.network.is_open(edge_address(index, 0).ip(), CONTROL);
        if !is_open || self.control.is_none() {
            return edge.lose_control(now, &mut self.ledger);
        }
        let mut cable = Cable::default();
        cable.disturbed_at = Some(now);
        // TCP and TLS come first.
        cable.tell_control(now + ms(30), ToControl::Attach(edge.info()));
        self.cables[index] = Some(cable);
    }

    /// Both sides take the cable for broken.
    pub(super) fn break_cable(&mut self, index: usize) {
        if self.cables[index].take().is_none() {
            return;
        }
        if let Some(control) = &mut self.control {
            control.detach(self.now, index);
        }
        self.edges[index].lose_control(self.now, &mut self.ledger);
    }

    /// Somebody writes.
    pub(super) fn write(&mut self, write: Write, takes: std::time::Duration) {
        if let Some(control) = &mut self.control {
            control.write(self.now, write, takes, &mut self.ledger);
        }
    }

    /// An attached edge serves the last change soon.
    fn check_converged(&self) {
        let Some(control) = &self.control else { return };
        for (index, edge) in self.edges.iter().enumerate() {
            let is_attached = edge.tie.is_attached && control.is_attached(index);
            let Some(cable) = self.cables[index].as_ref().filter(|_| is_attached) else {
                continue;
            };
            let quiet_since = cable
                .disturbed_at
                .map_or(control.published_at, |at| at.max(control.published_at));
            let (held, newest) = (edge.snapshot.generation, control.snapshot.generation);
            assert!(
                held == newest || self.now < quiet_since + CONVERGED,
                "edge {index} has not the last change: it holds {held}, control {newest}"
            );
        }
    }
}
