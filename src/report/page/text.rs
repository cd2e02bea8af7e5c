//! Text that stays text.

/// For element content and for attribute values in double quotes.
pub(in super::super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Controls, and marks that turn the direction of what follows.
            '\n' | '\t' => safe.push(letter),
            letter if letter.is_control() || is_direction(letter) => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A paragraph of plain text.
pub(in super::super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escaped(text))
}

/// Names and what there is to say of each; plain text.
pub(in super::super) fn entries(all: &[(String, String)]) -> String {
    let all = all
        .iter()
        .map(|(name, text)| format!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(text)));
    format!("<dl>{}</dl>", all.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_is_left() {
        let cases = [
            ("T-shirt", "T-shirt"),
            ("</script>", "&lt;/script&gt;"),
            ("\" onload='x'", "&quot; onload=&#39;x&#39;"),
            ("&amp;", "&amp;amp;"),
            ("a\u{202e}b\u{0}", "a\u{fffd}b\u{fffd}"),
            ("Größe", "Größe"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
        }
    }
}
