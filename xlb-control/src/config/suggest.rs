//! What somebody who mistyped a name may have meant.

/// Names that are listed when nothing is near. A thousand pools would bury the message.
const MAX_LISTED: usize = 20;

/// The name nearest to what was written, if one is near enough to be meant.
pub(super) fn nearest<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = fold(written);
    // A third of the letters may be wrong: more, and short names all look alike.
    let most = (written.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &fold(name)), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// One sentence: the nearest name, or all that there are.
pub(super) fn advice<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match nearest(written, names.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("use one of {}", list(names)),
    }
}

/// Names in backticks, with commas.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut listed: Vec<String> = names
        .by_ref()
        .take(MAX_LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = names.count();
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed.join(", ")
}

/// Case, hyphens and underscores are what people mix up most.
fn fold(name: &str) -> String {
    // Names are short; a long text is nobody's slip, and the distance is quadratic.
    name.chars()
        .take(128)
        .map(|c| match c {
            '-' => '_',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let keys = ["backends", "check", "name"];
        assert_eq!(nearest("backend", keys), Some("backends"));
        assert_eq!(nearest("Check", keys), Some("check"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("servers", keys), None);
        assert_eq!(nearest("down-grace", ["down_grace"]), Some("down_grace"));
    }

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..25).map(|i| format!("p{i}")).collect();
        let text = list(names.iter().map(String::as_str));
        assert!(text.ends_with("`p19`, and 5 more"), "{text}");
    }
}
