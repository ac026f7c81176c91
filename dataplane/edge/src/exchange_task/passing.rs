//! Bytes of an answer on their way through hyper, accounted until the visitor's socket has taken them.
//!
//! hyper and h2 buffer what a visitor does not read yet. A visitor that opens many streams and reads none
//! makes them hold all of it.

use std::io::IoSlice;
use std::rc::Rc;

use adit_driver::chunks::Chunks;
use bytes::Buf;

use crate::shares::Account;

/// Some bytes. They are given back to their account when they are dropped. Costs two additions per piece that
/// hyper takes.
pub(crate) struct Passing {
    chunks: Chunks,
    lent: Option<(Rc<Account>, u64)>,
}

impl Passing {
    /// Bytes of an exchange that is accounted.
    pub(super) fn accounted(chunks: Chunks, account: &Rc<Account>) -> Self {
        let bytes = chunks.len() as u64;
        account.hold(bytes);
        Self {
            chunks,
            lent: Some((account.clone(), bytes)),
        }
    }
}

impl From<Chunks> for Passing {
    /// Bytes that are nobody's.
    fn from(chunks: Chunks) -> Self {
        Self { chunks, lent: None }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Some((account, bytes)) = self.lent.take() {
            account.release(bytes);
        }
    }
}

impl Buf for Passing {
    fn remaining(&self) -> usize {
        self.chunks.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.chunks.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.chunks.advance(count);
    }
}
