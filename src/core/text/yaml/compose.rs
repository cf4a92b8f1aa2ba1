//! Values of the parts that the scanner finds.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Refused;
use super::scalar;
use super::scalar::Scalar;
use super::scan::{Event, Part, Scanner};

/// What is read at most, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Greatest depth of values in values.
    pub depth: usize,
    /// Of the outermost map, only these keys; all if there are none.
    pub keys: &'a [&'a str],
    /// Of the maps below it, only this key.
    pub below: Option<&'a str>,
    /// Of the maps in the list under that key, only these keys; all if there are none.
    pub fields: &'a [&'a str],
}

/// A value that an anchor names, and how many values it holds; none while it is not complete.
type Anchored = Option<(Value, usize)>;

/// Reads one document.
pub struct Composer<'a> {
    scanner: Scanner<'a>,
    limits: Limits<'a>,
    anchors: HashMap<String, Anchored>,
    /// How many values may still be read. One that an alias repeats counts each time.
    left: usize,
    depth: usize,
}

impl<'a> Composer<'a> {
    /// Reads nothing yet.
    pub fn new(text: &'a str, limits: Limits<'a>, left: usize) -> Self {
        Self { scanner: Scanner::new(text), limits, anchors: HashMap::new(), left, depth: 0 }
    }

    /// How many values may still be read.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The first document.
    pub fn document(&mut self) -> Result<Value, Refused> {
        self.scanner.next()?;
        if self.scanner.next()?.part != Part::Document {
            return Ok(Value::Null);
        }
        let first = self.scanner.next()?;
        let (value, _) = self.node(first)?;
        // What does not end here was no document.
        self.scanner.next()?;
        Ok(value)
    }

    /// The value that begins with this part, and how many values it holds.
    fn node(&mut self, Event { part, line }: Event) -> Result<(Value, usize), Refused> {
        self.count(1)?;
        let (anchor, value, count) = match part {
            Part::Alias(anchor) => return self.alias(&anchor, line),
            Part::Scalar { anchor, tag, text, plain } => {
                let scalar = understood(tag.as_deref(), text, plain, line)?;
                (anchor, scalar.into_value().map_err(at(line))?, 1)
            }
            Part::List(anchor) => {
                self.begin(anchor.as_deref(), line)?;
                let (items, count) = self.list()?;
                (anchor, Value::Array(items), count)
            }
            Part::Map(anchor) => {
                self.begin(anchor.as_deref(), line)?;
                let (map, count) = self.map()?;
                (anchor, Value::Object(map), count)
            }
            Part::Document | Part::End | Part::Other => return Err(at(line)("a value is missing")),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, Some((value.clone(), count)));
        }
        Ok((value, count))
    }

    fn alias(&mut self, anchor: &str, line: u64) -> Result<(Value, usize), Refused> {
        let (value, count) = match self.anchors.get(anchor) {
            Some(Some((value, count))) => (value, *count),
            Some(None) => return Err(at(line)("the value of an anchor contains itself")),
            None => return Err(at(line)("an alias names no anchor")),
        };
        // Before it takes memory.
        self.left = self.left.checked_sub(count).ok_or(Refused::TooMany)?;
        Ok((value.clone(), count))
    }

    fn list(&mut self) -> Result<(Vec<Value>, usize), Refused> {
        let (mut items, mut count) = (Vec::new(), 1);
        loop {
            let event = self.scanner.next()?;
            if event.part == Part::End {
                self.depth -= 1;
                return Ok((items, count));
            }
            let (item, more) = self.node(event)?;
            items.push(item);
            count += more;
        }
    }

    fn map(&mut self) -> Result<(Map<String, Value>, usize), Refused> {
        let (mut map, mut count, depth) = (Map::new(), 1, self.depth);
        loop {
            let event = self.scanner.next()?;
            if event.part == Part::End {
                self.depth -= 1;
                return Ok((map, count));
            }
            let line = event.line;
            let merges = is_merge(&event.part);
            let key = self.key(event)?;
            let value = self.scanner.next()?;
            if !merges && !self.is_wanted(depth, &key) {
                self.skip(&value.part)?;
                continue;
            }
            let (value, more) = self.node(value)?;
            count += more;
            if merges {
                merge(&mut map, value, line)?;
            } else {
                // The last one counts.
                map.insert(key, value);
            }
        }
    }

    fn key(&mut self, Event { part, line }: Event) -> Result<String, Refused> {
        if let Part::Scalar { anchor: None, tag, text, plain } = part {
            self.count(1)?;
            return understood(tag.as_deref(), text, plain, line)?.into_key().map_err(at(line));
        }
        match self.node(Event { part, line })?.0 {
            Value::String(key) => Ok(key),
            Value::Bool(truth) => Ok(truth.to_string()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(at(line)("a map or a list is the key of a map")),
        }
    }

    fn is_wanted(&self, depth: usize, key: &str) -> bool {
        match depth {
            1 => self.limits.keys.is_empty() || self.limits.keys.contains(&key),
            2 => self.limits.below.is_none_or(|wanted| wanted == key),
            // The list itself is the third.
            4 => self.limits.fields.is_empty() || self.limits.fields.contains(&key),
            _ => true,
        }
    }

    /// Passes over the value that begins with this part.
    fn skip(&mut self, first: &Part) -> Result<(), Refused> {
        let mut open = nesting(first);
        self.count(1)?;
        while open > 0 {
            open += nesting(&self.scanner.next()?.part);
            self.count(1)?;
        }
        Ok(())
    }

    fn begin(&mut self, anchor: Option<&str>, line: u64) -> Result<(), Refused> {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.to_owned(), None);
        }
        self.depth += 1;
        if self.depth > self.limits.depth { Err(at(line)("values lie too deep in values")) } else { Ok(()) }
    }

    fn count(&mut self, more: usize) -> Result<(), Refused> {
        self.left = self.left.checked_sub(more).ok_or(Refused::TooMany)?;
        Ok(())
    }
}

/// Adds the keys of a map, or of the maps of a list, of which the first one counts.
fn merge(map: &mut Map<String, Value>, value: Value, line: u64) -> Result<(), Refused> {
    match value {
        Value::Object(other) => map.extend(other),
        Value::Array(others) => {
            for other in others.into_iter().rev() {
                let Value::Object(other) = other else { return Err(at(line)("map merge requires a map")) };
                map.extend(other);
            }
        }
        _ => return Err(at(line)("map merge requires a map")),
    }
    Ok(())
}

fn is_merge(part: &Part) -> bool {
    matches!(part, Part::Scalar { text, plain, tag, .. }
        if text == "<<" && (*plain || tag.as_deref() == Some("tag:yaml.org,2002:merge")))
}

fn nesting(part: &Part) -> i64 {
    match part {
        Part::List(_) | Part::Map(_) => 1,
        Part::End => -1,
        _ => 0,
    }
}

fn understood(tag: Option<&str>, text: String, plain: bool, line: u64) -> Result<Scalar, Refused> {
    scalar::understand(tag, text, plain).map_err(at(line))
}

fn at(line: u64) -> impl Fn(&'static str) -> Refused {
    move |problem| Refused::Malformed { line, problem }
}
