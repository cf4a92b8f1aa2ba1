//! What the API server says when a right is missing, read into the rights themselves. Its own words about a Role take
//! kilobytes, for it repeats each rule.

use crate::core::object::KindName;
use std::collections::BTreeSet;

use super::{Right, RoleRule, said, short};

/// Before the rules that a Role must not grant.
const GRANTS: &str = "is attempting to grant RBAC permissions not currently held:";
/// Between a user and the verb.
const CANNOT: &str = " cannot ";
/// Before the answer to a template that asks for an object.
const LOOKUP: &str = "error calling lookup: ";

/// Rights that somebody lacks, as the API server has refused a request for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// The user; none if the text tells none.
    user: Option<String>,
    /// A Role grants them, or a binding of one; otherwise the request itself takes them.
    granted: bool,
    /// Where.
    within: RightScope,
    /// The template that asked for an object.
    template: Option<String>,
    /// The rights.
    rights: BTreeSet<Right>,
}

/// Where a right is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum RightScope {
    /// The text does not say it.
    #[default]
    Untold,
    /// In the whole cluster.
    Cluster,
    /// In this namespace.
    Namespace(String),
}

impl Lacking {
    /// Reads a refusal; none if it is about anything else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let template = text.rfind(LOOKUP).map(|at| {
            // The file; a text that it has evaluated is a template of its own.
            let before = text[..at].split_once("executing \"").and_then(|(_, rest)| rest.split('"').next());
            before.unwrap_or_default().to_owned()
        });
        let lacking = granting(text).or_else(|| asking(text))?;
        Some(Self { template: template.filter(|name| !name.is_empty()), ..lacking })
    }

    /// Whether it is a `ServiceAccount` that lacks them, and not a person.
    #[must_use]
    pub fn by_account(&self) -> bool {
        self.user.as_deref().is_none_or(|user| user.starts_with("system:serviceaccount:"))
    }

    /// Whether this very right is missing.
    #[must_use]
    pub fn is_to(&self, group: &str, resource: &str, verb: &str) -> bool {
        self.rights.contains(&Right::new(group, resource, verb))
    }

    /// Says in a sentence without a full stop which object takes what. `namespace` is told if it is not
    /// that of the runner.
    #[must_use]
    pub fn sentence(&self, object: Option<&KindName>, namespace: Option<&str>) -> String {
        let who = self.who();
        let (rights, within) = (said(&self.rights), self.place());
        if self.granted {
            let elsewhere = namespace.filter(|namespace| self.home() != Some(*namespace));
            let elsewhere =
                elsewhere.map(|namespace| format!(" in namespace {}", short(namespace))).unwrap_or_default();
            let rights = if rights.is_empty() { "rights".into() } else { rights };
            let object = object.map_or_else(|| "a Role".into(), |object| limited(&object.to_string()));
            return format!("{object}{elsewhere} grants {rights}, which {who} lacks");
        }
        let needs = match (&self.template, object) {
            (Some(template), _) => format!("template {}", limited(template)),
            (None, Some(object)) => limited(&object.to_string()),
            (None, None) => "helm".into(),
        };
        format!("{needs} needs the right to {rights}{within}, which {who} lacks")
    }

    /// The same about a request of the runner itself, as in "read Secret/x".
    #[must_use]
    pub fn while_doing(&self, doing: &str) -> String {
        format!("cannot {doing}: {} lacks the right to {}{}", self.who(), said(&self.rights), self.place())
    }

    fn who(&self) -> String {
        match self.user.as_deref().filter(|_| !self.by_account()) {
            None => "the runner".into(),
            Some(user) => format!("user {}", limited(user)),
        }
    }

    fn place(&self) -> String {
        match &self.within {
            RightScope::Untold => String::new(),
            RightScope::Cluster => " in the whole cluster".into(),
            RightScope::Namespace(namespace) => format!(" in namespace {}", short(namespace)),
        }
    }

    /// The namespace of the `ServiceAccount`.
    fn home(&self) -> Option<&str> {
        self.user.as_deref()?.strip_prefix("system:serviceaccount:")?.split(':').next()
    }
}

/// A name of the text, as far as it fits into a sentence.
fn limited(name: &str) -> String {
    crate::core::text::redact::head(name, 160)
}

/// `roles.rbac… "NAME" is forbidden: user "U" (groups=["A" "B"]) is attempting to grant RBAC permissions not currently held:`
/// and a line for each rule.
fn granting(text: &str) -> Option<Lacking> {
    let (before, rules) = text.split_once(GRANTS)?;
    let user = before.rsplit_once("user \"").and_then(|(_, rest)| rest.split('"').next());
    let rights = rules_of(rules).0.iter().flat_map(RoleRule::rights).collect();
    Some(Lacking { user: user.map(ToOwned::to_owned), granted: true, rights, ..Lacking::default() })
}

/// `services "NAME" is forbidden: User "U" cannot patch resource "services" in API group "" in the namespace "NS"`
fn asking(text: &str) -> Option<Lacking> {
    let (_, rest) = text.rsplit_once("is forbidden: User \"")?;
    let (user, rest) = rest.split_once('"')?;
    let (verb, rest) = rest.strip_prefix(CANNOT)?.split_once(' ')?;
    let quoted = |words: &str| rest.split_once(words).and_then(|(_, rest)| rest.split('"').next());
    let right = match (quoted("path \""), quoted("resource \"")) {
        (Some(path), None) => Right::new("", path, verb),
        (_, resource) => Right::new(quoted("in API group \"").unwrap_or_default(), resource?, verb),
    };
    let within = match quoted("in the namespace \"") {
        Some(namespace) => RightScope::Namespace(namespace.to_owned()),
        None if rest.contains("at the cluster scope") => RightScope::Cluster,
        None => RightScope::Untold,
    };
    let rights = BTreeSet::from([right]);
    Some(Lacking { user: Some(user.to_owned()), within, rights, ..Lacking::default() })
}

/// The text with an ellipsis in place of the rules that the API server repeats, and of the groups of the user.
#[must_use]
pub fn without_lists(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(GRANTS) {
        let (before, after) = rest.split_at(at + GRANTS.len());
        let groups = before.rfind(" (groups=[").filter(|from| before[*from..].contains("]) "));
        let end = groups.and_then(|from| Some(from + before[from..].rfind("]) ")? + 2));
        match groups.zip(end) {
            Some((from, end)) => short.extend([&before[..from], &before[end..]]),
            None => short.push_str(before),
        }
        short.push_str(" {…}");
        rest = rules_of(after).1;
    }
    short.push_str(rest);
    short
}

/// The rules that a text begins with, and what follows them: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"
/// "list"]}` for each.
fn rules_of(text: &str) -> (Vec<RoleRule>, &str) {
    let mut rules = Vec::new();
    let mut rest = text;
    while let Some((rule, after)) = rest.trim_start().strip_prefix('{').and_then(rule_of) {
        rules.push(rule);
        rest = after;
    }
    (rules, rest)
}

fn rule_of(text: &str) -> Option<(RoleRule, &str)> {
    let mut rule = RoleRule::default();
    let mut rest = text;
    loop {
        let (field, after) = rest.split_once(":[")?;
        let (list, after) = list_of(after)?;
        match field {
            "APIGroups" => rule.groups = list,
            "Resources" => rule.resources = list,
            "NonResourceURLs" => rule.paths = list,
            "ResourceNames" => rule.names = list,
            "Verbs" => rule.verbs = list,
            _ => return None,
        }
        match after.strip_prefix(", ") {
            Some(next) => rest = next,
            None => return Some((rule, after.strip_prefix('}')?)),
        }
    }
}

/// Quoted words with a space between, up to the bracket.
fn list_of(text: &str) -> Option<(Vec<String>, &str)> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(' ');
        if let Some(after) = rest.strip_prefix(']') {
            return Some((words, after));
        }
        let (word, after) = word_of(rest.strip_prefix('"')?)?;
        words.push(word);
        rest = after;
    }
}

/// A word up to its quote, in which a backslash takes the meaning from the next character.
fn word_of(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((word, &text[at + 1..])),
            c => word.push(c),
        }
    }
    None
}
