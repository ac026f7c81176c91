//! What goes wrong in a world, and when.

use std::time::Duration;

use http::Method;
use rand::RngExt as _;

use super::clock::ms;
use super::connector::Mood;
use super::edge::Edge;
use super::network::Weather;
use super::{HOSTS, REQUEST_LIMIT, TROUBLE, World, edge_address};

impl World {
    /// Visitors ask and things go wrong, for a while.
    pub(super) fn trouble(&mut self) {
        self.run_until(self.start + ms(2_500));
        while self.now < self.start + TROUBLE {
            let pause = self.rng.random_range(1..1_500);
            self.run_until(self.now + ms(pause));
            match self.rng.random_range(0..10) {
                0..7 => self.any_request(),
                _ => self.any_trouble(),
            }
            self.ledger.check_ended(self.now, REQUEST_LIMIT);
        }
    }

    /// All is well from here on.
    pub(super) fn mend(&mut self) {
        self.network.weather = Weather::calm();
        self.network.mend();
        for seat in &mut self.connectors {
            seat.mood = Mood::Well(ms(10));
            if let Some(process) = &mut seat.process {
                process.origin = seat.mood;
            }
        }
    }

    fn any_request(&mut self) {
        let host = HOSTS[self.rng.random_range(0..HOSTS.len())];
        let method =
            [Method::GET, Method::GET, Method::PUT, Method::POST][self.rng.random_range(0..4)].clone();
        let body_bytes = [1, 1_000, 20_000][self.rng.random_range(0..3)];
        self.ask(host, method, body_bytes);
    }

    fn any_trouble(&mut self) {
        let number = self.rng.random_range(0..self.connectors.len());
        match self.rng.random_range(0..20) {
            0..3 => self.crash(number),
            3..6 => self.leave(number),
            6..9 => self.cut(number),
            9..12 => self.network.mend(),
            12..14 => self.rebind(number),
            14..17 => self.change_mood(number),
            17..19 => self.network.weather = Weather::any(&mut self.rng),
            _ => self.restart_edge(),
        }
        self.settle();
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
        for edge in 1..=2 {
            if self.rng.random_bool(0.7) {
                self.network.cut(place, edge_address(edge).ip(), is_one_way);
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

    /// The edge's process is killed and started anew.
    fn restart_edge(&mut self) {
        self.edge.crash(self.now, &mut self.ledger);
        self.runs += 1;
        self.edge = Edge::start(edge_address(1), self.now, self.runs, self.fault);
        self.route();
    }
}
