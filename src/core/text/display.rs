//! Text that others wrote, on its way to people: to a status, a log, a terminal.

use serde_json::Value;

use super::redact::head;

/// The text without what is not to be read but to be obeyed: the sequences that steer a terminal, other control
/// characters, and those that turn the direction of writing. Line breaks and tabs stay.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // A terminal takes all up to the first letter for parameters.
            '\u{1b}' if rest.next_if_eq(&'[').is_some() => {
                while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                rest.next_if(|c| matches!(c, '@'..='~'));
            }
            '\n' | '\t' => clean.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

/// Makes every string of a document printable and at most `longest` bytes long, and every list at most `most` items.
pub fn trim(value: &mut Value, most: usize, longest: usize) {
    match value {
        Value::String(text) => *text = head(&printable(text), longest),
        Value::Array(items) => {
            items.truncate(most);
            for item in items {
                trim(item, most, longest);
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|field| trim(field, most, longest)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_steers_a_terminal_goes_and_words_stay() {
        for (text, shown) in [
            ("\u{1b}[31;1mred\u{1b}[0m and \u{1b}]0;title\u{7}plain", "red and ]0;titleplain"),
            ("a\0b\r\nc\td\u{8}\u{7f}\u{9b}2Je", "ab\nc\td2Je"),
            ("user\u{202e}txt.exe\u{2066}", "usertxt.exe"),
            ("grüße 你好 🙂 {\"a\": 1}", "grüße 你好 🙂 {\"a\": 1}"),
            ("ends with \u{1b}[", "ends with "),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn a_document_is_cut_everywhere() {
        let mut value = json!({"a": ["\u{1b}[2Jx", {"b": "y".repeat(50)}, 1, 2, 3], "c": null, "d": -1});
        trim(&mut value, 3, 10);
        assert_eq!(value, json!({"a": ["x", {"b": "yyyyyyy…"}, 1], "c": null, "d": -1}));
    }

    proptest! {
        #[test]
        fn nothing_but_line_breaks_and_tabs_is_left_of_control(text in any::<String>()) {
            let clean = printable(&text);
            prop_assert!(!clean.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')));
            prop_assert_eq!(printable(&clean), clean.clone());
        }
    }
}
