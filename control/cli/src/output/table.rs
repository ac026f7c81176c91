//! Columns aligned by spaces, each cell followed by one more, the last one too.

/// Renders rows as a table; all rows have as many cells as the first.
///
/// A column is as wide as its widest cell plus one space, counted in characters.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + 1
    };
    let widths: Vec<usize> = (0..columns).map(width_of).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn every_cell_is_padded_and_followed_by_a_space() {
        let rows = [
            row(&["ID", "NAME", "CREATED", "CONNECTIONS"]),
            row(&[
                "11111111-2222-3333-4444-555555555555",
                "lab",
                "2026-01-02T03:04:05Z",
                "1xlab01",
            ]),
        ];
        let expected = concat!(
            "ID                                   NAME CREATED              CONNECTIONS \n",
            "11111111-2222-3333-4444-555555555555 lab  2026-01-02T03:04:05Z 1xlab01     \n",
        );
        assert_eq!(render(&rows), expected);
    }

    #[test]
    fn an_empty_cell_still_takes_its_column() {
        assert_eq!(render(&[row(&["A", "B"]), row(&["", "é"])]), "A B \n  é \n");
    }
}
