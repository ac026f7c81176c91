//! What origins said ahead of their answers.

use super::{Kind::Counter as C, PerCore};

pub(super) const PER_CORE: &[PerCore] = &[
    (
        "edge_interim_answers_passed_total",
        C,
        "Interim answers (1xx) that visitors were given.",
        |m| &m.interim_passed,
    ),
    (
        "edge_interim_answers_dropped_total",
        C,
        "Interim answers (1xx) that were too many or too large, or that the visitor had no use for.",
        |m| &m.interim_dropped,
    ),
];
