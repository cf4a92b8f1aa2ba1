//! A text as it is searched: without its whitespace, or decoded, and with the way back to where each byte came from.

/// What stands before a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// The byte before it.
    None,
    /// Blanks.
    Blank,
    /// Whitespace with a line break.
    Line,
}

/// Bytes that were made of a text.
#[derive(Clone, Debug, Default)]
pub struct View {
    bytes: Vec<u8>,
    gaps: Vec<Gap>,
    /// Where in the text each byte comes from.
    spans: Vec<(usize, usize)>,
    pending: Option<Gap>,
}

impl View {
    /// The text without its whitespace.
    pub fn of(text: &str) -> Self {
        let mut view = Self::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            view.push_char(c, (at, at + c.len_utf8()));
        }
        view
    }

    /// An empty view.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            gaps: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(bytes),
            pending: None,
        }
    }

    /// Adds a character that comes from there.
    pub fn push_char(&mut self, c: char, span: (usize, usize)) {
        match c {
            '\n' | '\r' => self.gap(Gap::Line),
            c if c.is_whitespace() => self.gap(Gap::Blank),
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| self.push(byte, span)),
        }
    }

    /// Adds a byte that comes from there. Whitespace becomes a gap.
    pub fn push_byte(&mut self, byte: u8, span: (usize, usize)) {
        if byte.is_ascii() { self.push_char(char::from(byte), span) } else { self.push(byte, span) }
    }

    /// Adds what stands before the next byte.
    pub fn gap(&mut self, gap: Gap) {
        self.pending = self.pending.max(Some(gap));
    }

    fn push(&mut self, byte: u8, span: (usize, usize)) {
        self.bytes.push(byte);
        self.gaps.push(self.pending.take().unwrap_or(Gap::None));
        self.spans.push(span);
    }

    /// The bytes without whitespace.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What stands before each byte.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Where a byte comes from.
    pub fn span(&self, at: usize) -> (usize, usize) {
        self.spans[at]
    }

    /// Where in the text these bytes come from.
    pub fn spans(&self, from: usize, to: usize) -> (usize, usize) {
        (self.spans[from].0, self.spans[to - 1].1)
    }

    /// Beginning and end of each line.
    pub fn lines(&self) -> Vec<(usize, usize)> {
        let breaks = (1..self.bytes.len()).filter(|at| self.gaps[*at] == Gap::Line);
        let mut starts: Vec<usize> = std::iter::once(0).chain(breaks).collect();
        starts.push(self.bytes.len());
        starts.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }
}
