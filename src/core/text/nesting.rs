//! JSON of bounded depth, whatever a server sends.
//!
//! A reader of JSON gives up at 128 levels, and a list that holds one object that cannot be read cannot be read at all. The API
//! server stores fields without a schema (`spec.values`) as deep as anybody writes them, and their names once more in
//! `metadata.managedFields`. So what lies deeper than any field that is used is replaced by `null` before it is read.

use bytes::Bytes;

/// Deepest level that is passed on. `spec.values` may be nested 64 levels deep and lie at the fourth level of a list: what is
/// cut off here is refused there.
const DEEPEST: usize = 100;

/// Takes JSON in pieces, as it comes from a connection, and passes it on without what is nested too deep.
#[derive(Debug, Default)]
pub struct Shallow {
    depth: usize,
    /// Levels of what is being left out; none while everything is passed on.
    skipped: usize,
    in_string: bool,
    escaped: bool,
}

impl Shallow {
    /// The next piece.
    pub fn pass(&mut self, piece: Bytes) -> Bytes {
        let (mut passed, mut from) = (Vec::new(), 0);
        let mut whole = self.skipped == 0;
        for (at, byte) in piece.iter().enumerate() {
            if self.in_string {
                self.in_string = self.escaped || *byte != b'"';
                self.escaped = !self.escaped && *byte == b'\\';
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' if self.depth < DEEPEST => self.depth += 1,
                b'{' | b'[' => {
                    if self.skipped == 0 {
                        whole = false;
                        passed.extend_from_slice(&piece[from..at]);
                        passed.extend_from_slice(b"null");
                    }
                    self.skipped += 1;
                }
                b'}' | b']' if self.skipped > 0 => {
                    self.skipped -= 1;
                    from = at + 1;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        if whole {
            return piece;
        }
        if self.skipped == 0 {
            passed.extend_from_slice(&piece[from..]);
        }
        passed.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// What comes out of a text that comes in pieces of this size.
    fn passed(text: &str, size: usize) -> String {
        let mut shallow = Shallow::default();
        let pieces = text.as_bytes().chunks(size).map(|piece| shallow.pass(Bytes::copy_from_slice(piece)));
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a\\\"}{":["#.repeat(levels / 2), "]}".repeat(levels / 2))
    }

    #[test]
    fn what_is_too_deep_for_a_reader_becomes_readable_and_the_rest_stays() {
        let text = format!(r#"{{"items":[{{"values":{},"name":"b"}},{{"name":"c"}}]}}"#, nested(3000));
        assert!(serde_json::from_str::<Value>(&text).is_err(), "no reader takes it as it is");
        for size in [1, 7, 4096, text.len()] {
            let read: Value = serde_json::from_str(&passed(&text, size)).unwrap();
            assert_eq!((&read["items"][0]["name"], &read["items"][1]), (&json!("b"), &json!({"name": "c"})), "{size}");
        }
    }

    #[test]
    fn events_of_a_watch_follow_each_other() {
        let text = format!("{}\n{}\n{}\n", nested(200), nested(20), nested(4000));
        let lines = passed(&text, 33);
        assert_eq!(lines.lines().nth(1), Some(nested(20).as_str()));
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
    }

    proptest! {
        #[test]
        fn no_piece_panics_and_what_is_shallow_stays_as_it_is(text in r#"[\[\]{}",:\\a-c]{0,90}"#, size in 1usize..9) {
            prop_assert_eq!(passed(&text, size), text);
        }
    }
}
