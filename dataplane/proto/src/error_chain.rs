//! An error and its causes in one line, as logs and answers show them.

use std::error::Error;

/// The texts of `error` and of each of its causes, with `: ` between them.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the file")]
    struct Outer(#[source] std::fmt::Error);

    #[test]
    fn causes_follow_the_error() {
        let cause = std::fmt::Error;
        assert_eq!(chain(&cause), cause.to_string());
        assert_eq!(chain(&Outer(cause)), format!("cannot read the file: {cause}"));
    }
}
