//! Makes inputs out of a corpus: same seed, same corpus, same input.
//!
//! Mutations know nothing of the format, but favour what breaks decoders: extreme lengths in
//! little-endian words, cuts, repeats, and parts of other inputs in the wrong place.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// Largest input: above every limit that a decoder has on small things, small enough to be quick.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// Most mutations of one input.
const STEPS_MAX: usize = 8;

/// Bytes that mean something in the texts and formats at hand.
const BYTES: &[u8] = b"\x00\x01\x7f\x80\xff\n\r \"'*+-./:;=[\\]_{}09aAzZ";

/// Words that counts, sizes and pointers are cut from.
const WORDS: [u32; 12] = [
    0,
    1,
    7,
    8,
    0xff,
    0x1000,
    0xffff,
    0x1fff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    u32::MAX,
];

/// A seeded source of inputs.
pub(crate) struct Mutator {
    random: StdRng,
}

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// One mutation of the corpus, or now and then noise alone.
    pub(crate) fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = if self.random.random_ratio(1, 64) {
            self.noise(256)
        } else {
            self.pick(corpus).to_vec()
        };
        // Every other input has one mutation only: most of those get past the first checks.
        let steps = if self.random.random_ratio(1, 2) {
            1
        } else {
            self.random.random_range(1..=STEPS_MAX)
        };
        for _ in 0..steps {
            self.step(&mut input, corpus);
            input.truncate(INPUT_BYTES_MAX);
        }
        input
    }

    fn step(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        match self.random.random_range(0..9) {
            0 => self.flip_bit(input),
            1 => self.set_byte(input),
            2 => self.set_word(input),
            3 => self.copy_within(input),
            4 => {
                let (from, to) = self.range(input.len());
                input.drain(from..to);
            }
            5 => {
                let (from, to) = self.range(input.len());
                let part = input[from..to].to_vec();
                let at = self.random.random_range(0..=input.len());
                input.splice(at..at, part);
            }
            6 => {
                let other = self.pick(corpus);
                let (from, to) = self.range(other.len());
                let (start, end) = self.range(input.len());
                input.splice(start..end, other[from..to].iter().copied());
            }
            7 => {
                let at = self.random.random_range(0..=input.len());
                let noise = self.noise(16);
                input.splice(at..at, noise);
            }
            _ => {
                let size = self.random.random_range(0..=input.len());
                input.truncate(size);
            }
        }
    }

    fn flip_bit(&mut self, input: &mut [u8]) {
        if let Some(at) = self.index(input.len()) {
            input[at] ^= 1 << self.random.random_range(0..8);
        }
    }

    fn set_byte(&mut self, input: &mut [u8]) {
        if let Some(at) = self.index(input.len()) {
            input[at] = BYTES[self.random.random_range(0..BYTES.len())];
        }
    }

    /// Mostly at a multiple of four, where the words of Cap'n Proto lie.
    fn set_word(&mut self, input: &mut [u8]) {
        let Some(at) = self.index(input.len()) else { return };
        let at = if self.random.random_ratio(7, 8) {
            at & !3
        } else {
            at
        };
        if let Some(place) = input[at..].first_chunk_mut::<4>() {
            let word = u32::from_le_bytes(*place);
            let word = match self.random.random_range(0..4) {
                0 => word.wrapping_add(self.random.random_range(0..64)),
                1 => word.wrapping_sub(self.random.random_range(0..64)),
                _ => WORDS[self.random.random_range(0..WORDS.len())],
            };
            *place = word.to_le_bytes();
        }
    }

    fn copy_within(&mut self, input: &mut [u8]) {
        let (from, to) = self.range(input.len());
        let at = self.random.random_range(0..=input.len() - (to - from));
        input.copy_within(from..to, at);
    }

    fn noise(&mut self, size_max: usize) -> Vec<u8> {
        let mut noise = vec![0; self.random.random_range(0..=size_max)];
        self.random.fill_bytes(&mut noise);
        noise
    }

    fn pick<'a>(&mut self, corpus: &'a [Vec<u8>]) -> &'a [u8] {
        &corpus[self.random.random_range(0..corpus.len())]
    }

    fn index(&mut self, size: usize) -> Option<usize> {
        (size > 0).then(|| self.random.random_range(0..size))
    }

    /// A range within `size`, short more often than long.
    fn range(&mut self, size: usize) -> (usize, usize) {
        let from = self.random.random_range(0..=size);
        let longest = if self.random.random_ratio(3, 4) {
            32.min(size - from)
        } else {
            size - from
        };
        (from, from + self.random.random_range(0..=longest))
    }
}
