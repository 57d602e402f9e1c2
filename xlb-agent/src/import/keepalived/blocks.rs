//! The syntax: a statement a line, and blocks in braces.

/// A line, and the block after it if it has one.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub(super) line: usize,
    words: Vec<String>,
    pub(super) block: Vec<Self>,
}

impl Statement {
    /// A word of the line; empty if there are not so many.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// All of the line.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }

    /// The statement of the block that begins with a word.
    pub(super) fn find(&self, word: &str) -> Option<&Self> {
        self.block.iter().find(|it| it.word(0) == word)
    }
}

/// Reads a text. Braces that are missing at its end are taken as there.
pub(super) fn parse(text: &str) -> Vec<Statement> {
    // The statements of the blocks that are open, outermost first.
    let mut open: Vec<Vec<Statement>> = vec![Vec::new()];
    for (index, line) in text.lines().enumerate() {
        let line = line.split(['#', '!']).next().unwrap_or("");
        let spaced = line.replace('{', " { ").replace('}', " } ");
        let mut begun = false;
        for word in spaced.split_whitespace() {
            match word {
                "{" => {
                    open.push(Vec::new());
                    begun = false;
                }
                "}" => {
                    close(&mut open);
                    begun = false;
                }
                word => {
                    let Some(block) = open.last_mut() else {
                        continue;
                    };
                    if !begun {
                        block.push(Statement {
                            line: index + 1,
                            ..Statement::default()
                        });
                        begun = true;
                    }
                    if let Some(statement) = block.last_mut() {
                        statement.words.push(word.trim_matches('"').to_owned());
                    }
                }
            }
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().unwrap_or_default()
}

fn close(open: &mut Vec<Vec<Statement>>) {
    // One too many closes nothing.
    if open.len() < 2 {
        return;
    }
    let block = open.pop().unwrap_or_default();
    if let Some(owner) = open.last_mut().and_then(|outer| outer.last_mut()) {
        owner.block = block;
    }
}
