//! What goes wrong in a world, and when.

use std::time::Duration;

use http::Method;
use rand::RngExt as _;

use super::clock::ms;
use super::connector::Mood;
use super::control::{self, Write};
use super::edge::Edge;
use super::installation::CONTROL;
use super::ledger::STEADY;
use super::network::Weather;
use super::{REQUEST_LIMIT, TROUBLE, TUNNELS, WRITTEN, World, edge_address};

impl World {
    /// Visitors ask and things go wrong, for a while.
    pub(super) fn trouble(&mut self) {
        self.run_until(self.start + ms(2_500));
        while self.now < self.start + TROUBLE {
            let pause = self.rng.random_range(1..1_500);
            self.run_until(self.now + ms(pause));
            match self.rng.random_range(0..10) {
                0..6 => self.any_request(),
                6 => self.any_write(),
                _ => self.any_trouble(),
            }
            self.ledger.check_ended(self.now, REQUEST_LIMIT);
        }
    }

    /// All is well from here on.
    pub(super) fn mend(&mut self) {
        self.network.weather = Weather::calm();
        self.network.mend();
        if self.control.is_none() {
            self.control_at = Some(self.now);
        }
        for seat in &mut self.connectors {
            seat.mood = Mood::Well(ms(10));
            if let Some(process) = &mut seat.process {
                process.origin = seat.mood;
            }
        }
    }

    fn any_request(&mut self) {
        let edge = self.rng.random_range(0..self.edges.len());
        let host = match self.rng.random_range(0..6) {
            0 => WRITTEN[self.rng.random_range(0..WRITTEN.len())],
            _ => STEADY[self.rng.random_range(0..STEADY.len())],
        };
        let method =
            [Method::GET, Method::GET, Method::PUT, Method::POST][self.rng.random_range(0..4)].clone();
        let body_bytes = [1, 1_000, 20_000][self.rng.random_range(0..3)];
        self.ask(edge, host, method, body_bytes);
    }

    fn any_write(&mut self) {
        let write = Write {
            host: WRITTEN[self.rng.random_range(0..WRITTEN.len())],
            tunnel: [Some(TUNNELS[0]), Some(TUNNELS[1]), None][self.rng.random_range(0..3)],
        };
        // A disk is slow at times.
        let slowest = [20, 200, 3_000][self.rng.random_range(0..3)];
        let takes = self.rng.random_range(1..slowest);
        self.write(write, ms(takes));
        if self.rng.random_bool(0.1) {
            let wait = self.rng.random_range(0..takes);
            self.run_until(self.now + ms(wait));
            self.crash_control();
        }
    }

    fn any_trouble(&mut self) {
        let number = self.rng.random_range(0..self.connectors.len());
        match self.rng.random_range(0..24) {
            0..3 => self.crash(number),
            3..6 => self.leave(number),
            6..9 => self.cut(number),
            9..12 => self.network.mend(),
            12..14 => self.rebind(number),
            14..17 => self.change_mood(number),
            17..19 => self.network.weather = Weather::any(&mut self.rng),
            19 => self.restart_edge(),
            20..22 => self.crash_control(),
            22 => self.restore_control(),
            _ => {
                let edge = self.rng.random_range(0..self.edges.len());
                self.network.cut(edge_address(edge, 0).ip(), CONTROL, false);
            }
        }
        self.settle();
    }

    /// Control's process is gone, and is started anew with what is on its disk.
    fn crash_control(&mut self) {
        let Some(control) = self.control.take() else {
            return;
        };
        let is_stored = self.rng.random();
        let wait = ms(self.rng.random_range(100..8_000));
        control.crash(&mut self.disk, is_stored);
        self.control_at = Some(self.now + wait);
        for index in 0..self.edges.len() {
            self.break_cable(index);
        }
    }

    /// Somebody puts an old copy of its disk in place, or makes one.
    fn restore_control(&mut self) {
        if self.rng.random() {
            self.backup = self.disk.clone();
            return;
        }
        self.crash_control();
        self.disk = self.backup.clone();
        // What was written since is lost by the hand that did it.
        self.ledger.acknowledged.clear();
    }

    /// The process is gone without a word.
    fn crash(&mut self, number: usize) {
        let wait = self.rng.random_range(100..8_000);
        let seat = &mut self.connectors[number];
        if seat.process.take().is_some() {
            seat.start_at = Some(self.now + ms(wait));
        }
    }

    fn leave(&mut self, number: usize) {
        let now = self.now;
        if let Some(process) = &mut self.connectors[number].process
            && !process.is_leaving
        {
            process.leave(now);
        }
    }

    fn cut(&mut self, number: usize) {
        let Some(process) = &self.connectors[number].process else {
            return;
        };
        let place = process.host.address.ip();
        let is_one_way = self.rng.random_bool(0.3);
        let edges = self.connectors[number].character.edges.clone();
        for edge in edges {
            if self.rng.random_bool(0.7) {
                self.network.cut(place, edge.ip(), is_one_way);
            }
        }
    }

    /// The connector's address translator forgets it.
    fn rebind(&mut self, number: usize) {
        if let Some(process) = &self.connectors[number].process {
            self.network.translate(process.host.address);
        }
    }

    fn change_mood(&mut self, number: usize) {
        let mood = match self.rng.random_range(0..6) {
            0 => Mood::Refusing,
            1 => Mood::Hanging,
            2 => Mood::Breaking,
            _ => Mood::Well(Duration::from_millis(self.rng.random_range(1..400))),
        };
        let seat = &mut self.connectors[number];
        seat.mood = mood;
        if let Some(process) = &mut seat.process {
            process.origin = mood;
        }
    }

    /// An edge's process is killed and started anew, with the snapshot that is on its disk.
    fn restart_edge(&mut self) {
        let index = self.rng.random_range(0..self.edges.len());
        self.break_cable(index);
        let disk = self.edges[index].crash(self.now, &mut self.ledger);
        self.runs += 1;
        let place = (index, edge_address(index, 0));
        let secret = control::entry(&self.disk, TUNNELS[0]).secret_digest;
        self.edges[index] = Edge::start(place, self.now, self.runs, disk, secret, self.fault);
    }
}
