//! As much of HTTP/1.1 (RFC 9112) as a lab needs.

/// The header field in which a backend says its name.
pub(super) const BACKEND_FIELD: &str = "X-Backend";

/// A request for `/`.
pub(super) fn request(host: &str, keep_alive: bool) -> String {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n")
}

/// An answer that is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Name of the backend, empty if it did not say.
    pub(super) backend: String,
    /// Bytes that the answer takes.
    pub(super) len: usize,
}

/// Reads an answer from the start of `bytes`; `None` while there are too few.
pub(super) fn parse_answer(bytes: &[u8]) -> Option<Answer> {
    let (head, head_len) = parse_head(bytes)?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body_len: usize = field(head, "Content-Length")?.parse().ok()?;
    let len = head_len + body_len;
    let backend = field(head, BACKEND_FIELD).unwrap_or_default().to_owned();
    (bytes.len() >= len).then_some(Answer {
        status,
        backend,
        len,
    })
}

/// The head of a message without the empty line, and its length with it.
pub(super) fn parse_head(bytes: &[u8]) -> Option<(&str, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, end + 4))
}

/// The value of a header field.
pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nx-backend: web1\r\nContent-Length: 5\r\n\r\nweb1\n";

    #[test]
    fn an_answer_is_read_once_it_is_complete() {
        for len in 0..ANSWER.len() {
            assert_eq!(parse_answer(&ANSWER[..len]), None, "{len} bytes");
        }
        let answer = parse_answer(ANSWER).expect("complete");
        assert_eq!(
            answer,
            Answer {
                status: 200,
                backend: "web1".into(),
                len: ANSWER.len()
            }
        );
    }

    #[test]
    fn what_follows_an_answer_is_left() {
        let two = [ANSWER, ANSWER].concat();
        assert_eq!(parse_answer(&two).expect("complete").len, ANSWER.len());
    }
}
