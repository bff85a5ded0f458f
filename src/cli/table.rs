//! Tables on a terminal. What stands in them may be anybody's word, a key's name or a model's, and steers nothing there.

use crate::keys::steers;

/// A number of things, one of them or many.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Columns as wide as they must be, two spaces apart.
pub(super) fn table<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned))
        .chain(rows.map(|row| row.map(|cell| harmless(&cell))))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The text without what would steer a terminal or turn a line around.
pub(super) fn harmless(text: &str) -> String {
    text.replace(steers, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let told = [0, 1, 2].map(|number| count(number, "memory", "memories"));
        assert_eq!(told, ["0 memories", "1 memory", "2 memories"]);
    }

    #[test]
    fn tables_line_up() {
        let rows = [
            ["a".to_owned(), "äöü".to_owned()],
            ["long".to_owned(), "b".to_owned()],
        ];
        assert_eq!(
            table(["X", "Y"], rows.into_iter()),
            "X     Y\na     äöü\nlong  b"
        );
    }

    #[test]
    fn nothing_steers_a_terminal() {
        let rows = [[
            "\u{1b}]0;x\u{7}\n\u{202e}".to_owned(),
            "\u{9b}31m\u{2066}שלום".to_owned(),
        ]];
        assert_eq!(
            table(["X", "Y"], rows.into_iter()),
            "X         Y\n?]0;x???  ?31m?שלום"
        );
    }
}
