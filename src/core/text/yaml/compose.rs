//! Values of the parts that the scanner finds.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::YamlError;
use super::scalar;
use super::scalar::Scalar;
use super::scan::{Scanner, YamlEvent, YamlPart};

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
    pub fn document(&mut self) -> Result<Value, YamlError> {
        self.scanner.next()?;
        if self.scanner.next()?.part != YamlPart::Document {
            return Ok(Value::Null);
        }
        let first = self.scanner.next()?;
        let (value, _) = self.node(first)?;
        // What does not end here was no document.
        self.scanner.next()?;
        Ok(value)
    }

    /// The value that begins with this part, and how many values it holds.
    fn node(&mut self, YamlEvent { part, line }: YamlEvent) -> Result<(Value, usize), YamlError> {
        self.count(1)?;
        let (anchor, value, count) = match part {
            YamlPart::Alias(anchor) => return self.alias(&anchor, line),
            YamlPart::Scalar { anchor, tag, text, plain } => {
                let scalar = understood(tag.as_deref(), text, plain, line)?;
                (anchor, scalar.into_value().map_err(at(line))?, 1)
            }
            YamlPart::List(anchor) => {
                self.begin(anchor.as_deref(), line)?;
                let (items, count) = self.list()?;
                (anchor, Value::Array(items), count)
            }
            YamlPart::Map(anchor) => {
                self.begin(anchor.as_deref(), line)?;
                let (map, count) = self.map()?;
                (anchor, Value::Object(map), count)
            }
            YamlPart::Document | YamlPart::End | YamlPart::Other => return Err(at(line)("a value is missing")),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, Some((value.clone(), count)));
        }
        Ok((value, count))
    }

    fn alias(&mut self, anchor: &str, line: u64) -> Result<(Value, usize), YamlError> {
        let (value, count) = match self.anchors.get(anchor) {
            Some(Some((value, count))) => (value, *count),
            Some(None) => return Err(at(line)("the value of an anchor contains itself")),
            None => return Err(at(line)("an alias names no anchor")),
        };
        // Before it takes memory.
        self.left = self.left.checked_sub(count).ok_or(YamlError::TooMany)?;
        Ok((value.clone(), count))
    }

    fn list(&mut self) -> Result<(Vec<Value>, usize), YamlError> {
        let (mut items, mut count) = (Vec::new(), 1);
        loop {
            let event = self.scanner.next()?;
            if event.part == YamlPart::End {
                self.depth -= 1;
                return Ok((items, count));
            }
            let (item, more) = self.node(event)?;
            items.push(item);
            count += more;
        }
    }

    fn map(&mut self) -> Result<(Map<String, Value>, usize), YamlError> {
        let (mut map, mut count, depth) = (Map::new(), 1, self.depth);
        loop {
            let event = self.scanner.next()?;
            if event.part == YamlPart::End {
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

    fn key(&mut self, YamlEvent { part, line }: YamlEvent) -> Result<String, YamlError> {
        if let YamlPart::Scalar { anchor: None, tag, text, plain } = part {
            self.count(1)?;
            return understood(tag.as_deref(), text, plain, line)?.into_key().map_err(at(line));
        }
        match self.node(YamlEvent { part, line })?.0 {
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
    fn skip(&mut self, first: &YamlPart) -> Result<(), YamlError> {
        let mut open = nesting(first);
        self.count(1)?;
        while open > 0 {
            open += nesting(&self.scanner.next()?.part);
            self.count(1)?;
        }
        Ok(())
    }

    fn begin(&mut self, anchor: Option<&str>, line: u64) -> Result<(), YamlError> {
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.to_owned(), None);
        }
        self.depth += 1;
        if self.depth > self.limits.depth { Err(at(line)("values lie too deep in values")) } else { Ok(()) }
    }

    fn count(&mut self, more: usize) -> Result<(), YamlError> {
        self.left = self.left.checked_sub(more).ok_or(YamlError::TooMany)?;
        Ok(())
    }
}

/// Adds the keys of a map, or of the maps of a list, of which the first one counts.
fn merge(map: &mut Map<String, Value>, value: Value, line: u64) -> Result<(), YamlError> {
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

fn is_merge(part: &YamlPart) -> bool {
    matches!(part, YamlPart::Scalar { text, plain, tag, .. }
        if text == "<<" && (*plain || tag.as_deref() == Some("tag:yaml.org,2002:merge")))
}

fn nesting(part: &YamlPart) -> i64 {
    match part {
        YamlPart::List(_) | YamlPart::Map(_) => 1,
        YamlPart::End => -1,
        _ => 0,
    }
}

fn understood(tag: Option<&str>, text: String, plain: bool, line: u64) -> Result<Scalar, YamlError> {
    scalar::understand(tag, text, plain).map_err(at(line))
}

fn at(line: u64) -> impl Fn(&'static str) -> YamlError {
    move |problem| YamlError::Malformed { line, problem }
}
