//! The names in a query of Prometheus: those of series, and those of labels
//! (<https://prometheus.io/docs/prometheus/latest/querying/basics/>).

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// Operators that are words.
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];
/// Words before a list of labels.
const GROUPINGS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// Aggregations, which a grouping may follow before what they are of.
const AGGREGATIONS: [&str; 6] = ["sum", "min", "max", "avg", "count", "group"];

/// What a query asks for.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Series, by the name that they have in the query.
    pub(crate) series: BTreeSet<String>,
    /// Labels that it selects, groups or joins by.
    pub(crate) labels: BTreeSet<String>,
}

impl Names {
    pub(crate) fn of(query: &str) -> Self {
        let mut names = Self::default();
        let mut rest = query.chars().peekable();
        while let Some(&next) = rest.peek() {
            match next {
                '"' => drop(text(&mut rest)),
                // Times, and intervals of Grafana's.
                '[' => drop(until(&mut rest, ']')),
                '{' => names.labels.extend(labels(&until(&mut rest, '}'))),
                '0'..='9' => drop(word(&mut rest)),
                _ if is_in_word(next) => {
                    let word = word(&mut rest);
                    let is_call = follows(&mut rest, '(');
                    if GROUPINGS.contains(&word.as_str()) {
                        names.labels.extend(labels(&until(&mut rest, ')')));
                    } else if !is_call
                        && !OPERATORS.contains(&word.as_str())
                        && !AGGREGATIONS.contains(&word.as_str())
                    {
                        names.series.insert(word);
                    }
                }
                _ => drop(rest.next()),
            }
        }
        names
    }
}

fn is_in_word(one: char) -> bool {
    one.is_ascii_alphanumeric() || "_:.".contains(one)
}

fn word(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut word = String::new();
    while let Some(next) = rest.next_if(|next| is_in_word(*next)) {
        word.push(next);
    }
    word
}

/// Whether this is the next that is no space.
fn follows(rest: &mut Peekable<Chars<'_>>, wanted: char) -> bool {
    while rest.next_if(|next| next.is_whitespace()).is_some() {}
    rest.peek() == Some(&wanted)
}

/// A text in quotes; `rest` is before the first of them.
fn text(rest: &mut Peekable<Chars<'_>>) -> String {
    rest.next();
    let mut inside = String::new();
    while let Some(next) = rest.next() {
        match next {
            '"' => break,
            '\\' => drop(rest.next()),
            other => inside.push(other),
        }
    }
    inside
}

/// All up to this bracket, without what is in quotes.
fn until(rest: &mut Peekable<Chars<'_>>, end: char) -> String {
    let mut inside = String::new();
    while let Some(&next) = rest.peek() {
        if next == '"' {
            text(rest);
            continue;
        }
        rest.next();
        if next == end {
            break;
        }
        inside.push(next);
    }
    inside
}

/// The labels in brackets of either kind.
fn labels(inside: &str) -> Vec<String> {
    let parts = inside.trim_start_matches(['{', '(']).split(',');
    let names = parts.map(|part| part.trim_matches([' ', '\n', '=', '!', '~']));
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[test]
fn names_of_series_and_labels_are_told_from_all_others() {
    let names = Names::of(
        "histogram_quantile(0.99, sum by (a, le) (rate(x_bucket{b=~\"y|z}\", c!=\"\"}[5m]))) \
         > 1e3 and on (d) 0.5 * e:f:rate5m unless time() - g{} offset 5m",
    );
    let texts = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(texts(names.series), "e:f:rate5m g x_bucket");
    assert_eq!(texts(names.labels), "a b c d le");
}
