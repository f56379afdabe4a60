//! What tenants and files say, made harmless for a terminal.

use std::fmt::Write;

/// Text on one line, with what a terminal would obey or not show written out.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON or YAML that was written by a serializer: what is harmful in it and no line's end stands
/// within a string, where JSON's escapes are as good as the character.
pub fn document(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units = [0; 2];
    for c in text.chars() {
        if c != '\n' && is_harmful(c) {
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters; and those that reorder, join or hide what stands around them.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_without_commands_to_the_terminal() {
        assert_eq!(
            line("a\n\r\u{1b}[31m\u{9b}0m\u{202e}é\u{e0041}"),
            "a\\u{a}\\u{d}\\u{1b}[31m\\u{9b}0m\\u{202e}é\\u{e0041}"
        );
    }

    #[test]
    fn json_says_the_same_when_it_is_harmless() {
        let text = "\u{7f}\u{9b}31m\u{202e}\u{e0041} \u{1b} é\n";
        let json = serde_json::to_string_pretty(&[text]).unwrap();
        let safe = document(&json);
        assert!(
            safe.chars().all(|c| c == '\n' || !is_harmful(c)),
            "{safe:?}"
        );
        assert_eq!(serde_json::from_str::<[String; 1]>(&safe).unwrap(), [text]);
    }
}
