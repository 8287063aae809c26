//! Reads SPDX licence expressions, as far as crates use them.

/// Whether `allowed` satisfies `expression`. A `/` is the old form of `OR`.
pub(crate) fn allows(allowed: &[String], expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { allowed, words: &words };
    reader.any() == Some(true) && reader.words.is_empty()
}

struct Reader<'a> {
    allowed: &'a [String],
    words: &'a [&'a str],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<&str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.next();
        }
        found
    }

    /// `a OR b`, which binds weaker than `AND`. `None`: a syntax error.
    fn any(&mut self) -> Option<bool> {
        let mut enough = self.all()?;
        while self.take("OR") {
            enough |= self.all()?;
        }
        Some(enough)
    }

    fn all(&mut self) -> Option<bool> {
        let mut enough = self.one()?;
        while self.take("AND") {
            enough &= self.one()?;
        }
        Some(enough)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let inner = self.any()?;
            return self.take(")").then_some(inner);
        }
        let mut name = self.next()?.to_owned();
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.next()?);
        }
        Some(self.allowed.contains(&name))
    }
}

#[test]
fn an_expression_needs_all_of_its_and_and_one_of_its_or() {
    let allowed: Vec<String> = ["MIT", "Apache-2.0", "ISC"].map(str::to_owned).to_vec();
    for good in [
        "MIT",
        "MIT/GPL-3.0",
        "GPL-3.0 OR MIT",
        "Apache-2.0 AND ISC",
        "(MIT OR GPL-3.0) AND ISC",
        "Apache-2.0 WITH LLVM-exception OR MIT",
    ] {
        assert!(allows(&allowed, good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR ISC) AND GPL-3.0",
        "GPL-3.0 OR MIT AND BSL-1.0",
        "Apache-2.0 WITH LLVM-exception",
        "MIT ISC",
        "(MIT",
    ] {
        assert!(!allows(&allowed, bad), "{bad}");
    }
}
