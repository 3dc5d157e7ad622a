//! Who is answered, and what a browser may do with the answer.

use std::net::IpAddr;
use std::str::FromStr as _;

use axum::Json;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

/// Nothing but what this address serves, no form is sent, and no other page frames this one (W3C, Content Security Policy 3).
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Lets through what a browser asks for on behalf of this page, or somebody by hand; and tells the browser what to keep to.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(request.method(), request.headers()) {
        Some((code, reason)) => (code, Json(json!({ "error": reason }))).into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    // A name of somebody else's that leads to a loopback address makes a page of theirs one of ours to the browser (DNS rebinding).
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_own_name) {
        return Some((
            StatusCode::MISDIRECTED_REQUEST,
            "the page is known as localhost or by a loopback address",
        ));
    }
    // Other pages learn nothing from an answer, but they could keep us busy (W3C, Fetch Metadata; older browsers do not say).
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Some((StatusCode::FORBIDDEN, "another page has asked for this"));
    }
    (method != Method::GET)
        .then_some((StatusCode::METHOD_NOT_ALLOWED, "nothing can be changed here: GET alone"))
}

/// A loopback address or `localhost`, at any port: a tunnel's end may have another one.
fn is_own_name(host: &str) -> bool {
    let Ok(authority) = Authority::from_str(host) else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_loopback = address.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    !host.contains('@') && (is_loopback || name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_not_ours() {
        for host in
            ["localhost", "localhost:9478", "LocalHost:1", "127.0.0.1:9478", "127.8.9.1", "[::1]:80", "[::1]"]
        {
            assert!(is_own_name(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "attacker.example",
            "attacker.example:9478",
            "localhost.attacker.example",
            "127.0.0.1.attacker.example",
            "192.0.2.1:9478",
            "127.0.0.1@attacker.example",
            "attacker.example@127.0.0.1",
            "[2001:db8::1]:80",
            "0.0.0.0",
        ] {
            assert!(!is_own_name(host), "{host}");
        }
    }

    #[test]
    fn what_another_page_asks_for_is_refused() {
        let code = |method: Method, headers: &[(&'static str, &str)]| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            refusal(&method, &headers.collect()).map(|(code, _)| code.as_u16())
        };
        let host = ("host", "127.0.0.1:9478");
        assert_eq!(code(Method::GET, &[host]), None);
        assert_eq!(code(Method::GET, &[host, ("sec-fetch-site", "none")]), None);
        assert_eq!(code(Method::GET, &[host, ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(code(Method::GET, &[host, ("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(code(Method::GET, &[host, ("sec-fetch-site", "same-site")]), Some(403));
        assert_eq!(code(Method::GET, &[]), Some(421));
        assert_eq!(code(Method::POST, &[host]), Some(405));
        assert_eq!(code(Method::HEAD, &[host]), Some(405));
    }
}
