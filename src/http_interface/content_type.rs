//! Which content types a body may have (RFC 9110 section 8.3, RFC 7396 for merge patches).

use super::Error;

/// Checks the content type of a body that is not empty, or of a POST of a web page.
///
/// A missing one is refused too, and not only for good order: a page of another site can make a browser
/// send a body without a type, or with a form's, unasked; with `application/json` it has to ask first
/// (CORS), and we never answer that.
///
/// # Errors
/// [`Error::UnsupportedContentType`].
pub(super) fn check(method: &str, value: Option<&str>) -> Result<(), Error> {
    let merge_patch = method == "PATCH";
    let allowed = value.is_some_and(|value| {
        let mut parts = value.split(';');
        let media_type = parts.next().unwrap_or("").trim();
        let known = media_type.eq_ignore_ascii_case("application/json")
            || merge_patch && media_type.eq_ignore_ascii_case("application/merge-patch+json");
        known && parts.all(parameter_is_fine)
    });
    if allowed { Ok(()) } else { Err(Error::UnsupportedContentType) }
}

/// JSON is UTF-8 (RFC 8259, section 8.1): a charset may only say that. Other parameters mean nothing.
fn parameter_is_fine(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return parameter.trim().is_empty();
    };
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || value.eq_ignore_ascii_case("utf-8")
        || value.eq_ignore_ascii_case("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_taken_and_nothing_else() {
        let cases = [
            ("PUT", Some("application/json"), true),
            ("PUT", Some("Application/JSON ; Charset=\"UTF-8\""), true),
            ("PUT", Some("application/json;"), true),
            ("PUT", Some("application/json; v=1"), true),
            ("PUT", Some("application/json; charset=iso-8859-1"), false),
            ("PUT", Some("application/json; nonsense"), false),
            ("PUT", Some("application/merge-patch+json"), false),
            ("PATCH", Some("application/merge-patch+json"), true),
            ("PATCH", Some("application/json"), true),
            ("POST", Some("application/x-www-form-urlencoded"), false),
            ("POST", Some("text/plain"), false),
            ("POST", Some("application/jsonp"), false),
            ("POST", Some(""), false),
            ("POST", None, false),
        ];
        for (method, value, fine) in cases {
            assert_eq!(check(method, value).is_ok(), fine, "{method} {value:?}");
        }
    }
}
