//! GraphQL documents (<https://spec.graphql.org/>), read as far as it takes to say which fields of what are asked for.
//!
//! Everything a server could read in two ways, or that only it can resolve, is refused: several operations, directives,
//! fragments that go round in circles. Aliases mean nothing; fragments are put in their places.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

/// Tokens of a document, depth of its selections, and fields once fragments are in their places.
const MAX_TOKENS: usize = 10_000;
const MAX_DEPTH: usize = 24;
const MAX_FIELDS: usize = 2_000;

/// One field that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Arguments that are texts, numbers or truth values; `None` for any other.
    pub(crate) arguments: BTreeMap<String, Option<String>>,
    pub(crate) fields: Vec<Field>,
}

/// The one query in a document, its variables filled in.
///
/// # Errors
/// Why it cannot be judged, in words that hold nothing of it.
pub(crate) fn query(document: &str, variables: &Map<String, Json>) -> Result<Vec<Field>, &'static str> {
    let mut parser = Parser {
        tokens: tokens(document)?,
        at: 0,
    };
    let mut operation: Option<Vec<Selection>> = None;
    let mut fragments = BTreeMap::new();
    while let Some(token) = parser.peek() {
        match token {
            Token::Name("fragment") => {
                let (name, selection) = parser.fragment()?;
                if fragments.insert(name, selection).is_some() {
                    return Err("two fragments have one name");
                }
            }
            Token::Name("query") | Token::Sign('{') => {
                let selection = parser.operation()?;
                if operation.replace(selection).is_some() {
                    return Err("it holds more than one operation");
                }
            }
            Token::Name("mutation" | "subscription") => {
                return Err(
                    "only queries can be judged: what a mutation touches is in ids that only the server can read",
                );
            }
            _ => return Err("it is not GraphQL"),
        }
    }
    let selection = operation.ok_or("it holds no operation")?;
    let mut filler = Filler {
        fragments: &fragments,
        variables,
        fields: 0,
    };
    filler.fill(&selection, 0)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Name(&'a str),
    Number(&'a str),
    /// Between the quotes; `None` for one with escapes or a block string, whose value is not looked at.
    Text(Option<&'a str>),
    Sign(char),
    Spread,
}

fn tokens(text: &str) -> Result<Vec<Token<'_>>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if found.len() == MAX_TOKENS {
            return Err("it is too long");
        }
        let (token, behind) = match first {
            ' ' | '\t' | '\n' | '\r' | ',' | '\u{feff}' => (None, rest.get(first.len_utf8()..)),
            '#' => (
                None,
                rest.find(['\n', '\r']).map_or(Some(""), |end| rest.get(end..)),
            ),
            '"' => string(rest)?,
            '.' => (Some(Token::Spread), rest.strip_prefix("...")),
            'a'..='z' | 'A'..='Z' | '_' => {
                let (word, behind) = run(rest, |c| c.is_ascii_alphanumeric() || c == '_');
                (Some(Token::Name(word)), behind)
            }
            '0'..='9' | '-' => {
                let (word, behind) = run(rest, |c| {
                    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+')
                });
                (Some(Token::Number(word)), behind)
            }
            '{' | '}' | '(' | ')' | '[' | ']' | ':' | '$' | '!' | '=' | '@' | '|' | '&' => {
                (Some(Token::Sign(first)), rest.get(1..))
            }
            _ => return Err("it is not GraphQL"),
        };
        found.extend(token);
        rest = behind.ok_or("it is not GraphQL")?;
    }
    Ok(found)
}

fn run(text: &str, part: impl Fn(char) -> bool) -> (&str, Option<&str>) {
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    text.split_at_checked(end)
        .map_or(("", None), |(word, behind)| (word, Some(behind)))
}

type Found<'a> = (Option<Token<'a>>, Option<&'a str>);

fn string(text: &str) -> Result<Found<'_>, &'static str> {
    const OPEN: &str = "a text in it does not end";
    if let Some(block) = text.strip_prefix("\"\"\"") {
        let mut from = 0;
        loop {
            let end = from
                + block
                    .get(from..)
                    .and_then(|rest| rest.find("\"\"\""))
                    .ok_or(OPEN)?;
            if block.get(..end).is_some_and(|before| before.ends_with('\\')) {
                from = end + 3;
                continue;
            }
            return Ok((Some(Token::Text(None)), block.get(end + 3..)));
        }
    }
    let body = text.get(1..).ok_or(OPEN)?;
    let mut escaped = false;
    let mut plain = true;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => (escaped, plain) = (true, false),
            '\n' | '\r' => return Err(OPEN),
            '"' => {
                let inside = body.get(..at).filter(|_| plain);
                return Ok((Some(Token::Text(inside)), body.get(at + 1..)));
            }
            _ => {}
        }
    }
    Err(OPEN)
}

/// As written, before fragments and variables.
#[derive(Debug)]
enum Selection<'a> {
    Field {
        name: &'a str,
        arguments: Vec<(&'a str, Argument<'a>)>,
        selection: Vec<Selection<'a>>,
    },
    Spread(&'a str),
    Inline(Vec<Selection<'a>>),
}

#[derive(Debug, Clone, Copy)]
enum Argument<'a> {
    Scalar(&'a str),
    Variable(&'a str),
    Other,
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

const BROKEN: &str = "it is not GraphQL";

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Result<Token<'a>, &'static str> {
        let token = self.peek().ok_or(BROKEN)?;
        self.at += 1;
        Ok(token)
    }

    fn takes(&mut self, token: Token<'_>) -> bool {
        let there = self.peek() == Some(token);
        self.at += usize::from(there);
        there
    }

    fn want(&mut self, sign: char) -> Result<(), &'static str> {
        if self.takes(Token::Sign(sign)) {
            Ok(())
        } else {
            Err(BROKEN)
        }
    }

    fn name(&mut self) -> Result<&'a str, &'static str> {
        match self.next()? {
            Token::Name(name) => Ok(name),
            _ => Err(BROKEN),
        }
    }

    fn no_directive(&self) -> Result<(), &'static str> {
        if self.peek() == Some(Token::Sign('@')) {
            return Err("a directive in it changes what is asked for");
        }
        Ok(())
    }

    fn operation(&mut self) -> Result<Vec<Selection<'a>>, &'static str> {
        if self.takes(Token::Name("query")) {
            if matches!(self.peek(), Some(Token::Name(_))) {
                self.at += 1;
            }
            if self.takes(Token::Sign('(')) {
                // Variables' types and defaults. A default would be another value than the one that is judged.
                while !self.takes(Token::Sign(')')) {
                    if self.next()? == Token::Sign('=') {
                        return Err("a variable has a default: give its value");
                    }
                }
            }
            self.no_directive()?;
        }
        self.selection(0)
    }

    fn fragment(&mut self) -> Result<(&'a str, Vec<Selection<'a>>), &'static str> {
        self.at += 1;
        let name = self.name()?;
        if self.name()? != "on" {
            return Err(BROKEN);
        }
        self.name()?;
        self.no_directive()?;
        Ok((name, self.selection(0)?))
    }

    fn selection(&mut self, depth: usize) -> Result<Vec<Selection<'a>>, &'static str> {
        if depth == MAX_DEPTH {
            return Err("its selections are too deep");
        }
        self.want('{')?;
        let mut all = Vec::new();
        while !self.takes(Token::Sign('}')) {
            let one = if self.takes(Token::Spread) {
                self.spread(depth)?
            } else {
                self.field(depth)?
            };
            all.push(one);
        }
        if all.is_empty() { Err(BROKEN) } else { Ok(all) }
    }

    fn spread(&mut self, depth: usize) -> Result<Selection<'a>, &'static str> {
        self.no_directive()?;
        if self.peek() == Some(Token::Sign('{')) {
            return Ok(Selection::Inline(self.selection(depth + 1)?));
        }
        match self.name()? {
            "on" => {
                self.name()?;
                self.no_directive()?;
                Ok(Selection::Inline(self.selection(depth + 1)?))
            }
            name => {
                self.no_directive()?;
                Ok(Selection::Spread(name))
            }
        }
    }

    fn field(&mut self, depth: usize) -> Result<Selection<'a>, &'static str> {
        let mut name = self.name()?;
        if self.takes(Token::Sign(':')) {
            name = self.name()?;
        }
        let mut arguments = Vec::new();
        if self.takes(Token::Sign('(')) {
            while !self.takes(Token::Sign(')')) {
                let argument = self.name()?;
                self.want(':')?;
                arguments.push((argument, self.argument(0)?));
            }
        }
        self.no_directive()?;
        let selection = match self.peek() {
            Some(Token::Sign('{')) => self.selection(depth + 1)?,
            _ => Vec::new(),
        };
        Ok(Selection::Field {
            name,
            arguments,
            selection,
        })
    }

    fn argument(&mut self, depth: usize) -> Result<Argument<'a>, &'static str> {
        if depth == MAX_DEPTH {
            return Err("its arguments are too deep");
        }
        Ok(match self.next()? {
            Token::Sign('$') => Argument::Variable(self.name()?),
            Token::Number(text) | Token::Text(Some(text)) => Argument::Scalar(text),
            Token::Name(_) | Token::Text(None) => Argument::Other,
            Token::Sign('[') => {
                while !self.takes(Token::Sign(']')) {
                    self.argument(depth + 1)?;
                }
                Argument::Other
            }
            Token::Sign('{') => {
                while !self.takes(Token::Sign('}')) {
                    self.name()?;
                    self.want(':')?;
                    self.argument(depth + 1)?;
                }
                Argument::Other
            }
            Token::Sign(_) | Token::Spread => return Err(BROKEN),
        })
    }
}

/// Puts fragments and variables in their places.
struct Filler<'a> {
    fragments: &'a BTreeMap<&'a str, Vec<Selection<'a>>>,
    variables: &'a Map<String, Json>,
    fields: usize,
}

impl Filler<'_> {
    fn fill(&mut self, selection: &[Selection<'_>], depth: usize) -> Result<Vec<Field>, &'static str> {
        if depth == MAX_DEPTH {
            return Err("its fragments go too deep, or round in circles");
        }
        let mut all = Vec::new();
        for one in selection {
            match one {
                Selection::Inline(inside) => all.extend(self.fill(inside, depth + 1)?),
                Selection::Spread(name) => {
                    let fragment = self.fragments.get(name).ok_or("a fragment in it is not there")?;
                    all.extend(self.fill(fragment, depth + 1)?);
                }
                Selection::Field {
                    name,
                    arguments,
                    selection,
                } => {
                    self.fields += 1;
                    if self.fields > MAX_FIELDS {
                        return Err("it asks for too many fields");
                    }
                    all.push(Field {
                        name: (*name).to_owned(),
                        arguments: self.arguments(arguments)?,
                        fields: self.fill(selection, depth + 1)?,
                    });
                }
            }
        }
        Ok(all)
    }

    fn arguments(
        &self,
        given: &[(&str, Argument<'_>)],
    ) -> Result<BTreeMap<String, Option<String>>, &'static str> {
        let mut all = BTreeMap::new();
        for (name, argument) in given {
            let value = match argument {
                Argument::Scalar(text) => Some((*text).to_owned()),
                Argument::Other => None,
                Argument::Variable(variable) => match self.variables.get(*variable) {
                    Some(Json::String(text)) => Some(text.clone()),
                    Some(Json::Number(number)) => Some(number.to_string()),
                    _ => None,
                },
            };
            if all.insert((*name).to_owned(), value).is_some() {
                return Err("an argument in it is given twice");
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(document: &str) -> Result<Vec<Field>, &'static str> {
        let variables = json!({ "o": "acme", "n": 7 });
        query(document, variables.as_object().unwrap())
    }

    #[test]
    fn aliases_fragments_and_variables_change_nothing() {
        let plain =
            read(r#"{ repository(owner: "acme", name: "site") { issue(number: 7) { title body } } }"#)
                .unwrap();
        let dressed = read(
            "query Q($o: String!, $n: Int!) { r: repository(owner: $o, name: \"site\") { ...R } } # end
             fragment R on Repository { i: issue(number: $n) { t: title, ... on Issue { body } } }",
        )
        .unwrap();
        assert_eq!(plain, dressed);
    }

    #[test]
    fn what_a_server_could_read_otherwise_is_refused() {
        for document in [
            "",
            "{}",
            "{ a ",
            "{ a } { b }",
            "query A { a } query B { b }",
            "mutation { a }",
            "subscription { a }",
            "{ a @include(if: true) }",
            "query Q($x: Int = 1) { a(b: $x) }",
            "{ ...F } fragment F on A { ...F }",
            "{ ...F }",
            "{ a(b: 1, b: 2) }",
            "{ ...F } fragment F on A { a } fragment F on A { b }",
            "{ a(b: \"x) }",
            "{ a \u{0} }",
            "{ ..a }",
        ] {
            assert!(read(document).is_err(), "{document}");
        }
        assert!(read(&"{ a ".repeat(100)).is_err());
        let bomb: Vec<String> = (0..20)
            .map(|n| format!("fragment F{n} on A {{ ...F{0} ...F{0} }} ", n + 1))
            .collect();
        let bomb = bomb.concat();
        assert!(read(&format!("{{ ...F0 }} {bomb} fragment F20 on A {{ a }}")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_judged_or_refused(text in "[a-z{}()$:.\"#@ \\\\\\n,!=0-9\\[\\]-]{0,200}") {
            let _ = read(&text);
        }
    }
}
