//! Takes JSON apart into records without reading them: brackets and strings only.
//!
//! So a record that is no JSON (Python writes `NaN`) does not make its neighbours unreadable, and refused bytes can be
//! kept exactly as they came. What is inside a record is read, and checked, by `serde_json`.

use std::ops::Range;

/// The text is not put together as JSON is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// A value: where it stands, and how deep it is nested (1: a plain object or array).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) range: Range<usize>,
    pub(crate) depth: usize,
}

/// The first byte at or after `at` that is no white space.
pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The byte after the string that begins at `at`.
fn string(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    let mut i = at + 1;
    loop {
        match bytes.get(i) {
            Some(b'"') => return Ok(i + 1),
            Some(b'\\') => i += 2,
            Some(_) => i += 1,
            None => return Err(Broken("a text does not end")),
        }
    }
}

/// The value that begins at `at`.
pub(super) fn value(bytes: &[u8], at: usize) -> Result<Span, Broken> {
    match bytes.get(at) {
        Some(b'{' | b'[') => container(bytes, at),
        Some(b'"') => string(bytes, at).map(|end| Span {
            range: at..end,
            depth: 0,
        }),
        _ => {
            let rest = bytes.get(at..).unwrap_or_default();
            let ends = |b: &u8| {
                matches!(
                    b,
                    b',' | b']' | b'}' | b':' | b' ' | b'\t' | b'\n' | b'\r' | b'{' | b'[' | b'"'
                )
            };
            let end = at + rest.iter().position(ends).unwrap_or(rest.len());
            if end == at {
                Err(Broken("a value is missing"))
            } else {
                Ok(Span {
                    range: at..end,
                    depth: 0,
                })
            }
        }
    }
}

/// The object or array that begins at `at`. The kind of bracket is remembered down to 64 levels; deeper, counted.
fn container(bytes: &[u8], at: usize) -> Result<Span, Broken> {
    let (mut depth, mut deepest, mut curly, mut i) = (0_usize, 0, 0_u64, at);
    while let Some(byte) = bytes.get(i) {
        match byte {
            b'"' => {
                i = string(bytes, i)?;
                continue;
            }
            b'{' | b'[' => {
                if depth < 64 {
                    curly = (curly & !(1 << depth)) | (u64::from(*byte == b'{') << depth);
                }
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => {
                depth -= 1;
                if depth < 64 && (curly >> depth) & 1 != u64::from(*byte == b'}') {
                    return Err(Broken("brackets do not match"));
                }
                if depth == 0 {
                    return Ok(Span {
                        range: at..i + 1,
                        depth: deepest,
                    });
                }
            }
            _ => {}
        }
        i += 1;
    }
    Err(Broken("an object or array does not end"))
}

/// Visits the elements of the array that begins at `at`, until one visit ends it; returns the byte after the array.
pub(crate) fn elements<E: From<Broken>>(
    bytes: &[u8],
    at: usize,
    mut each: impl FnMut(Span) -> Result<(), E>,
) -> Result<usize, E> {
    let mut i = skip_space(bytes, at + 1);
    if bytes.get(i) == Some(&b']') {
        return Ok(i + 1);
    }
    loop {
        let element = value(bytes, i)?;
        i = skip_space(bytes, element.range.end);
        each(element)?;
        match bytes.get(i) {
            Some(b',') => i = skip_space(bytes, i + 1),
            Some(b']') => return Ok(i + 1),
            _ => return Err(Broken("a list is not continued with , or ]").into()),
        }
    }
}

/// The value of `key` in the object that begins at `at`, and the byte after the object.
pub(crate) fn entry(bytes: &[u8], at: usize, key: &[u8]) -> Result<(Option<Span>, usize), Broken> {
    let mut found = None;
    let mut i = skip_space(bytes, at + 1);
    if bytes.get(i) == Some(&b'}') {
        return Ok((None, i + 1));
    }
    loop {
        if bytes.get(i) != Some(&b'"') {
            return Err(Broken("a field has no name"));
        }
        let end = string(bytes, i)?;
        let name = bytes.get(i + 1..end - 1).unwrap_or_default();
        i = skip_space(bytes, end);
        if bytes.get(i) != Some(&b':') {
            return Err(Broken("a field has no value"));
        }
        let value = value(bytes, skip_space(bytes, i + 1))?;
        i = skip_space(bytes, value.range.end);
        if name == key && found.is_none() {
            found = Some(value);
        }
        match bytes.get(i) {
            Some(b',') => i = skip_space(bytes, i + 1),
            Some(b'}') => return Ok((found, i + 1)),
            _ => return Err(Broken("an object is not continued with , or }")),
        }
    }
}

/// Where the first whole object of a growing text ends: `None` while it is not all there.
pub(crate) fn object_end(bytes: &[u8]) -> Result<Option<Range<usize>>, Broken> {
    let start = skip_space(bytes, 0);
    match bytes.get(start) {
        None => Ok(None),
        Some(b'{') => match container(bytes, start) {
            Ok(span) => Ok(Some(span.range)),
            Err(Broken("brackets do not match")) => Err(Broken("brackets do not match")),
            Err(_) => Ok(None),
        },
        Some(_) => Err(Broken("an object begins with {")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<Vec<(&str, usize)>, Broken> {
        let mut found = Vec::new();
        let end = elements::<Broken>(text.as_bytes(), 0, |span| {
            found.push((&text[span.range], span.depth));
            Ok(())
        })?;
        assert_eq!(end, text.trim_end().len());
        Ok(found)
    }

    #[test]
    fn a_list_is_taken_apart_whatever_its_elements_are() {
        for (text, expected) in [
            ("[]", vec![]),
            ("[ ]", vec![]),
            ("[1,NaN , -Infinity]", vec![("1", 0), ("NaN", 0), ("-Infinity", 0)]),
            (r#"[{"a":"]}\""},[[2]]]"#, vec![(r#"{"a":"]}\""}"#, 1), ("[[2]]", 2)]),
        ] {
            assert_eq!(list(text), Ok(expected), "{text}");
        }
        for broken in [
            "[",
            "[1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[{]}]",
            "[\"a",
            "[{\"a\":1]",
            "[[}]",
        ] {
            assert!(list(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_field_is_found_at_the_top_only() {
        let text = br#" {"x":{"readings":[0]},"readings" : [1] } "#;
        let (found, end) = entry(text, 1, b"readings").unwrap();
        assert_eq!(&text[found.unwrap().range], b"[1]");
        assert_eq!(end, text.len() - 1);
        for broken in ["{", "{a:1}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1 \"b\":2}"] {
            assert!(entry(broken.as_bytes(), 0, b"x").is_err(), "{broken}");
        }
    }

    #[test]
    fn the_end_of_an_object_is_known_only_when_it_is_there() {
        assert_eq!(object_end(br#"  {"a":"}"} {"#), Ok(Some(2..11)));
        for part in ["", " ", "{", "{\"a", "{\"a\\", "{\"a\":[{}"] {
            assert_eq!(object_end(part.as_bytes()), Ok(None), "{part}");
        }
        assert!(object_end(b"[").is_err() && object_end(b"{]").is_err());
    }

    #[test]
    fn a_hundred_thousand_brackets_are_counted_not_followed() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(value(text.as_bytes(), 0).map(|s| s.depth), Ok(100_000));
    }
}
