//! The scanner: libyaml, made safe.

use std::borrow::Cow;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::slice;

use unsafe_libyaml as unsafe_sys;

use super::YamlError;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum YamlPart {
    /// A document begins.
    Document,
    /// An alias of this anchor.
    Alias(String),
    /// A scalar.
    Scalar {
        /// Its anchor.
        anchor: Option<String>,
        /// Its tag.
        tag: Option<String>,
        /// What it says.
        text: String,
        /// It stands without quotes, and without a tag that says what it is.
        plain: bool,
    },
    /// A list begins, with its anchor.
    List(Option<String>),
    /// A map begins, with its anchor.
    Map(Option<String>),
    /// A list or a map ends.
    End,
    /// The beginning of the text, the end of a document, or that of the text.
    Other,
}

/// A part, and the line in which it begins, from 1 on.
pub struct YamlEvent {
    /// The part.
    pub part: YamlPart,
    /// The line.
    pub line: u64,
}

/// A mark that editors put before a text. Within one, as in a file that a template includes, it is a character to helm; the
/// library refuses it.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The text with another character in the place of each mark but the first, one that the text does not have.
fn without_marks(text: &str) -> (Cow<'_, str>, Option<char>) {
    let rest = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if !rest.contains(BYTE_ORDER_MARK) {
        return (Cow::Borrowed(text), None);
    }
    let Some(mark) = ('\u{e000}'..'\u{f8ff}').find(|private| !rest.contains(*private)) else {
        return (Cow::Borrowed(text), None);
    };
    (Cow::Owned(rest.replace(BYTE_ORDER_MARK, mark.encode_utf8(&mut [0; 4]))), Some(mark))
}

/// Finds the parts of a text.
pub struct Scanner<'a> {
    /// It has pointers into itself, and is not moved.
    parser: Box<MaybeUninit<unsafe_sys::yaml_parser_t>>,
    ended: bool,
    /// Stands for a byte order mark within the text.
    mark: Option<char>,
    /// What the parser reads: borrowed, or on the heap, so that it stays where it is.
    _text: Cow<'a, str>,
}

#[allow(unsafe_code)] // The library has the functions of its original in C.
impl<'a> Scanner<'a> {
    /// Scans nothing yet.
    pub fn new(text: &'a str) -> Self {
        let (text, mark) = without_marks(text);
        let mut parser = Box::new(MaybeUninit::uninit());
        // SAFETY: initialize makes a parser of what the pointer points to, which the Box keeps where it is until Drop deletes
        // the parser. The text is kept for as long, and the library does not write to it.
        let begun = unsafe {
            let begun = unsafe_sys::yaml_parser_initialize(parser.as_mut_ptr()).ok;
            if begun {
                unsafe_sys::yaml_parser_set_encoding(parser.as_mut_ptr(), unsafe_sys::YAML_UTF8_ENCODING);
                let length = u64::try_from(text.len()).unwrap_or_default();
                unsafe_sys::yaml_parser_set_input_string(parser.as_mut_ptr(), text.as_ptr(), length);
            }
            begun
        };
        Self { parser, ended: !begun, mark, _text: text }
    }

    /// The next part. After an error, and after the end, there are no others.
    pub fn next(&mut self) -> Result<YamlEvent, YamlError> {
        if self.ended {
            return Ok(YamlEvent { part: YamlPart::Other, line: 1 });
        }
        let mut event = MaybeUninit::<unsafe_sys::yaml_event_t>::uninit();
        // SAFETY: new has made a parser, or `ended` is set. parse fills the event if it succeeds, and only then is it read and
        // deleted; its texts are copied before.
        unsafe {
            if unsafe_sys::yaml_parser_parse(self.parser.as_mut_ptr(), event.as_mut_ptr()).fail {
                self.ended = true;
                return Err(self.refusal());
            }
            let event = event.assume_init_mut();
            let (part, line) = (part(event, self.mark), event.start_mark.line + 1);
            self.ended = event.type_ == unsafe_sys::YAML_STREAM_END_EVENT;
            unsafe_sys::yaml_event_delete(event);
            Ok(YamlEvent { part, line })
        }
    }

    /// What is wrong, after parse has failed.
    fn refusal(&self) -> YamlError {
        // SAFETY: the parser is one until Drop, and its problem is null or one of the library's own constant texts.
        unsafe {
            let parser = &*self.parser.as_ptr();
            let problem = Some(parser.problem).filter(|problem| !problem.is_null());
            let problem = problem.and_then(|problem| CStr::from_ptr::<'static>(problem.cast()).to_str().ok());
            let line = parser.problem_mark.line.max(parser.context_mark.line) + 1;
            YamlError::Malformed { line, problem: problem.unwrap_or("it cannot be read") }
        }
    }
}

#[allow(unsafe_code)]
impl Drop for Scanner<'_> {
    fn drop(&mut self) {
        // SAFETY: initialize has succeeded or zeroed it; it is deleted once.
        unsafe { unsafe_sys::yaml_parser_delete(self.parser.as_mut_ptr()) }
    }
}

/// What an event of the library says.
///
/// # Safety
/// The event must be one that the library has filled and nobody has deleted.
#[allow(unsafe_code)]
unsafe fn part(event: &unsafe_sys::yaml_event_t, mark: Option<char>) -> YamlPart {
    let text = |start: *const u8, length: usize| {
        // SAFETY: the library gives the length of each of its texts.
        let text = String::from_utf8_lossy(unsafe { slice::from_raw_parts(start, length) });
        mark.map_or_else(|| text.clone().into_owned(), |mark| text.replace(mark, BYTE_ORDER_MARK))
    };
    let named = |start: *const u8| {
        // SAFETY: a text of the library without a length ends with a zero.
        (!start.is_null()).then(|| text(start, unsafe { CStr::from_ptr(start.cast()) }.count_bytes()))
    };
    // SAFETY: the type of the event says which part of the union is filled.
    unsafe {
        match event.type_ {
            unsafe_sys::YAML_DOCUMENT_START_EVENT => YamlPart::Document,
            unsafe_sys::YAML_ALIAS_EVENT => YamlPart::Alias(named(event.data.alias.anchor).unwrap_or_default()),
            unsafe_sys::YAML_SCALAR_EVENT => {
                let scalar = &event.data.scalar;
                let length = usize::try_from(scalar.length).unwrap_or_default();
                let (anchor, tag) = (named(scalar.anchor), named(scalar.tag));
                YamlPart::Scalar { anchor, tag, text: text(scalar.value, length), plain: scalar.plain_implicit }
            }
            unsafe_sys::YAML_SEQUENCE_START_EVENT => YamlPart::List(named(event.data.sequence_start.anchor)),
            unsafe_sys::YAML_MAPPING_START_EVENT => YamlPart::Map(named(event.data.mapping_start.anchor)),
            unsafe_sys::YAML_SEQUENCE_END_EVENT | unsafe_sys::YAML_MAPPING_END_EVENT => YamlPart::End,
            _ => YamlPart::Other,
        }
    }
}
