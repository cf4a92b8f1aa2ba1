//! Several causes in one text: joined by ` && `, one per line, as a list with stars, or in brackets for one object.

/// What stands between the refusals of several objects.
const JOINT: &str = " && ";

/// How a line begins that is a cause of its own. Any other line goes on with the one before it, as "context deadline
/// exceeded" does with the object that was waited for.
const BEGINNINGS: &[&str] = &[
    "server-side apply failed ",
    "cannot patch ",
    "failed to ",
    "unable to ",
    "could not get information about the resource ",
    "conflict occurred ",
    "error validating ",
    "resource ",
    "internal error occurred",
    "operation cannot be fulfilled ",
    "object is being deleted",
    "admission webhook ",
    "job ",
];

/// How a line begins that says nothing about the cause: logs, warnings and advice.
const NOISE: &[&str] = &["level=", "warning:", "(try "];

/// The kinds of complaints about a field, as the API server words them.
const COMPLAINTS: &[&str] = &[
    "Invalid value",
    "Forbidden",
    "Required value",
    "Unsupported value",
    "Duplicate value",
    "Not found",
    "Too long",
    "Too many",
    "Internal error",
];

/// The parts of a text that are causes of their own.
pub fn parts(text: &str) -> Vec<String> {
    joined(text).into_iter().flat_map(lines).collect()
}

/// Splits at ` && `, but not within quotes: a command of a container may have it, too.
fn joined(text: &str) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            ' ' if !quoted && at >= start && text[at..].starts_with(JOINT) => {
                parts.push(&text[start..at]);
                start = at + JOINT.len();
            }
            _ => {}
        }
    }
    if quoted {
        // The quotes do not match, so they tell nothing.
        return text.split(JOINT).collect();
    }
    parts.push(&text[start..]);
    parts
}

fn lines(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut items_are_parts = false;
    for line in text.lines().filter(|line| !noise(line)) {
        let (words, own) = match line.trim_start().strip_prefix("* ") {
            Some(item) => (item, items_are_parts),
            None => (line, begins(line)),
        };
        let counted = words.strip_suffix(" occurred:").and_then(|words| words.rsplit_once("error"));
        if let Some((before, _)) = counted {
            // "2 errors occurred:" alone is only a heading; after other words, its items belong to them.
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ');
            items_are_parts = before.is_empty();
            if !items_are_parts {
                parts.push(before.to_owned());
            }
            continue;
        }
        match parts.last_mut() {
            Some(last) if !own => {
                last.push(if last.ends_with(':') { ' ' } else { '\n' });
                last.push_str(words);
            }
            _ => parts.push(words.trim().to_owned()),
        }
    }
    parts
}

fn noise(line: &str) -> bool {
    let line = line.trim().to_lowercase();
    line.is_empty() || NOISE.iter().any(|noise| line.starts_with(noise)) || line.contains(" warnings.go:")
}

fn begins(line: &str) -> bool {
    let lower = line.to_lowercase();
    // Deployment.apps "coder" is invalid, configmaps "coder" is forbidden
    let refused = |mark: &str| {
        line.split_once(mark).is_some_and(|(before, _)| before.matches('"').count() == 1 && !before.starts_with(' '))
    };
    BEGINNINGS.iter().any(|begin| lower.starts_with(begin))
        || refused("\" is invalid: ")
        || refused("\" is forbidden: ")
}

/// The complaints of the API server about one object, each with its field, if there are several: `Service "coder" is
/// invalid: [spec.a: Forbidden: no, spec.b: Required value]`. Any other text comes back as it is.
pub fn fields(text: &str) -> Vec<(Option<&str>, String)> {
    let whole = || vec![(None, text.to_owned())];
    let Some((about, list)) = text.split_once("\" is invalid: [") else { return whole() };
    let Some(list) = list.trim_end().strip_suffix(']') else { return whole() };
    let mut starts: Vec<usize> = list.match_indices(", ").map(|(at, _)| at + 2).collect();
    starts.insert(0, 0);
    starts.retain(|at| complaint(&list[*at..]).is_some());
    if starts.first() != Some(&0) {
        return whole();
    }
    let ends = starts.iter().skip(1).map(|at| at - 2).chain([list.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let words = &list[*start..end];
            (complaint(words), format!("{about}\" is invalid: {words}"))
        })
        .collect()
}

/// The field that a complaint begins with, if the text is one.
pub fn complaint(text: &str) -> Option<&str> {
    let (field, rest) = text.split_once(": ")?;
    let path = !field.is_empty() && field.chars().all(|c| c.is_alphanumeric() || ".[]-_/()".contains(c));
    (path && COMPLAINTS.iter().any(|word| rest.starts_with(word))).then_some(field)
}
