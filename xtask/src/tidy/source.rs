//! One file of the checkout: its text and, for Rust, its tokens, comments and syntax tree.

use std::ops::RangeInclusive;
use std::path::Path;

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// A token with its place. `::` is one token, and so is a lifetime with its quote.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) kind: Kind,
    /// First and last line, counted from 1.
    pub(crate) lines: (usize, usize),
    /// First column and the one after the last, in characters, counted from 0.
    pub(crate) columns: (usize, usize),
    /// For an opening bracket the index of the closing one; its own index elsewhere.
    pub(crate) close: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ident,
    Lifetime,
    Literal,
    Punct,
    Open,
    Close,
}

/// A comment or doc comment.
#[derive(Clone, Debug)]
pub(crate) struct Comment {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A file with its path relative to the workspace root.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) syntax: Option<syn::File>,
    /// Line and message of the first syntax error.
    pub(crate) error: Option<(usize, String)>,
    /// Lines of modules that are compiled for tests only.
    pub(crate) test_lines: Vec<RangeInclusive<usize>>,
    /// Every line is test code: a test target or a module of one.
    pub(crate) is_test_file: bool,
}

impl Source {
    pub(crate) fn new(path: &str, text: String) -> Self {
        let mut source = Self {
            path: path.to_owned(),
            text,
            tokens: Vec::new(),
            comments: Vec::new(),
            syntax: None,
            error: None,
            test_lines: Vec::new(),
            is_test_file: false,
        };
        if source.is_rust() {
            match source.text.parse::<TokenStream>() {
                Ok(stream) => source.lex(stream),
                Err(error) => {
                    source.error = Some((error.span().start().line, error.to_string()));
                }
            }
        }
        source
    }

    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|extension| extension == "rs")
    }

    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.is_test_file || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// Whether the texts of the tokens from `at` on are the words of `pattern`.
    pub(crate) fn matches(&self, at: usize, pattern: &str) -> bool {
        let mut tokens = self.tokens[at..].iter();
        pattern
            .split(' ')
            .all(|word| tokens.next().is_some_and(|token| token.text == word))
    }

    /// Indices at which `pattern` begins.
    pub(crate) fn find<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
        (0..self.tokens.len()).filter(move |&at| self.matches(at, pattern))
    }

    /// Attributes that stand before token `at`, nearest first, each as the tokens in its brackets.
    /// Visibility and the keywords of the item may stand between.
    pub(crate) fn attributes_before(&self, at: usize) -> Vec<&[Token]> {
        let mut attributes = Vec::new();
        let mut end = at;
        while let Some(last) = end.checked_sub(1) {
            let token = &self.tokens[last];
            let open = (token.kind == Kind::Close)
                .then(|| {
                    (0..last)
                        .rev()
                        .find(|&open| self.tokens[open].close == last)
                })
                .flatten();
            let before = open
                .and_then(|open| open.checked_sub(1))
                .map(|at| &self.tokens[at].text);
            match (token.text.as_str(), open, before.map(String::as_str)) {
                ("]", Some(open), Some("#")) => {
                    attributes.push(&self.tokens[open + 1..last]);
                    end = open - 1;
                }
                (")", Some(open), Some("pub")) => end = open - 1,
                ("pub" | "const" | "async" | "unsafe" | "extern" | "default", ..) => end = last,
                _ if token.kind == Kind::Literal => end = last,
                _ => break,
            }
        }
        attributes
    }

    fn lex(&mut self, stream: TokenStream) {
        match syn::parse2(stream.clone()) {
            Ok(file) => self.syntax = Some(file),
            Err(error) => self.error = Some((error.span().start().line, error.to_string())),
        }
        let mut lexer = Lexer {
            text: &self.text,
            tokens: Vec::new(),
            comments: Vec::new(),
            end: 0,
        };
        lexer.stream(stream);
        lexer.gap(self.text.len());
        (self.tokens, self.comments) = (lexer.tokens, lexer.comments);
        self.test_lines = self.test_modules();
    }

    fn test_modules(&self) -> Vec<RangeInclusive<usize>> {
        let opens = self.find("mod").filter(|&at| {
            self.tokens
                .get(at + 2)
                .is_some_and(|token| token.text == "{")
                && self.is_for_tests(at)
        });
        opens
            .map(|at| {
                let close = self.tokens[at + 2].close;
                self.tokens[at].lines.0..=self.tokens[close].lines.1
            })
            .collect()
    }

    /// Whether the item at token `at` stands under `#[cfg(test)]`.
    pub(crate) fn is_for_tests(&self, at: usize) -> bool {
        self.attributes_before(at).iter().any(|attribute| {
            let words: Vec<&str> = attribute.iter().map(|token| token.text.as_str()).collect();
            words.starts_with(&["cfg", "(", "test", ")"])
                || words.starts_with(&["cfg", "(", "all", "(", "test", ","])
        })
    }
}

/// Flattens a token stream and collects the comments between its tokens.
struct Lexer<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
    /// Byte after the last token seen.
    end: usize,
}

impl Lexer<'_> {
    fn stream(&mut self, stream: TokenStream) {
        for tree in stream {
            match tree {
                TokenTree::Group(group) => self.group(&group),
                TokenTree::Ident(ident) => self.push(ident.to_string(), Kind::Ident, ident.span()),
                TokenTree::Punct(punct) => {
                    self.push(punct.as_char().to_string(), Kind::Punct, punct.span());
                }
                TokenTree::Literal(literal) => {
                    self.push(literal.to_string(), Kind::Literal, literal.span());
                }
            }
        }
    }

    fn group(&mut self, group: &Group) {
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        if self.is_comment(group.span()) {
            self.comment(group.span());
            return;
        }
        let at = self.tokens.len();
        self.push(open.to_owned(), Kind::Open, group.span_open());
        self.stream(group.stream());
        self.push(close.to_owned(), Kind::Close, group.span_close());
        self.tokens[at].close = self.tokens.len() - 1;
    }

    fn push(&mut self, text: String, kind: Kind, span: Span) {
        if self.is_comment(span) {
            return;
        }
        let bytes = span.byte_range();
        self.gap(bytes.start);
        self.end = bytes.end;
        let (start, end) = (span.start(), span.end());
        if let Some(last) = self.tokens.last_mut() {
            let touches = last.lines.1 == start.line && last.columns.1 == start.column;
            let kind = match (last.text.as_str(), text.as_str()) {
                (":", ":") if touches => Some(Kind::Punct),
                ("'", _) if touches => Some(Kind::Lifetime),
                _ => None,
            };
            if let Some(kind) = kind {
                last.text.push_str(&text);
                last.kind = kind;
                last.columns.1 = end.column;
                return;
            }
        }
        let (lines, columns) = ((start.line, end.line), (start.column, end.column));
        self.tokens.push(Token {
            text,
            kind,
            lines,
            columns,
            close: self.tokens.len(),
        });
    }

    /// Doc comments arrive as attributes whose every token has the span of the comment.
    fn is_comment(&self, span: Span) -> bool {
        let text = &self.text[span.byte_range()];
        text.starts_with("//") || text.starts_with("/*")
    }

    fn comment(&mut self, span: Span) {
        let bytes = span.byte_range();
        self.gap(bytes.start);
        let text = self.text[bytes.clone()].to_owned();
        self.comments.push(Comment {
            line: span.start().line,
            text,
        });
        self.end = bytes.end;
    }

    /// What lies between two tokens is blank or comment, one per line.
    fn gap(&mut self, start: usize) {
        if start > self.end && !self.text[self.end..start].trim().is_empty() {
            let first = self.text[..self.end].matches('\n').count() + 1;
            let lines = self.text[self.end..start].split('\n').enumerate();
            let comments = lines.filter(|(_, text)| !text.trim().is_empty());
            self.comments.extend(comments.map(|(i, text)| Comment {
                line: first + i,
                text: text.trim().to_owned(),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_no_tokens_of_code() {
        let text =
            "//! a\n/// b\nfn f<'a>() -> &'a str { // c\n    \"x::y // no\" }\n/* d\n e */\n";
        let source = Source::new("x.rs", text.to_owned());
        let comments: Vec<_> = source
            .comments
            .iter()
            .map(|c| (c.line, c.text.as_str()))
            .collect();
        let want = [
            (1, "//! a"),
            (2, "/// b"),
            (3, "// c"),
            (5, "/* d"),
            (6, "e */"),
        ];
        assert_eq!(comments, want);
        assert_eq!(source.find("fn f <").count(), 1);
        assert_eq!(source.find("::").count(), 0);
        assert_eq!(source.find("'a").count(), 2);
    }

    #[test]
    fn test_modules_are_found() {
        let text = "mod a {}\n#[cfg(test)]\n#[expect(x)]\npub(crate) mod tests {\n fn f() {}\n}\n";
        let source = Source::new("x.rs", text.to_owned());
        assert_eq!(source.test_lines, [4..=6]);
        assert!(source.is_test(5) && !source.is_test(1));
    }
}
