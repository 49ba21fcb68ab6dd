//! How servers read a path: a table of those that are known, each as the steps it takes, in its order.
//!
//! Shares no code with the gateway. Must not know routes. Read `steps.rs` for what each step does.

#[allow(clippy::enum_glob_use, reason = "a row of the table is a line")]
use super::steps::Step::{self, *};

/// A server, or several in a row.
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step],
    /// Whether it finds its handlers in any case.
    pub(crate) folds_case: bool,
}

const fn reader(name: &'static str, steps: &'static [Step]) -> Reader {
    Reader { name, steps, folds_case: false }
}

const fn folding(name: &'static str, steps: &'static [Step]) -> Reader {
    Reader { name, steps, folds_case: true }
}

/// Servers by their manuals and sources; those with a setting once for each of its values.
pub(crate) const READERS: &[Reader] = &[
    reader("nothing is read: Express, Sinatra, Actix", &[]),
    reader("Express, not strict", &[TrailingSlash]),
    folding("Express as it comes", &[TrailingSlash]),
    reader("Koa, decoding segments after matching", &[DecodeSegments]),
    reader("node, new URL(target, base)", &[Backslash, Authority, EncodedDots, Dots]),
    reader("node, new URL() and then decodeURI", &[Backslash, Authority, EncodedDots, Dots, Decode]),
    reader("Fastify, semicolon as query", &[CutSemicolon, DecodeSegments]),
    reader("Fastify, lenient", &[CutSemicolon, Merge, TrailingSlash, DecodeSegments]),
    reader("Hapi, stripping", &[EncodedDots, Dots, DecodeSegments, TrailingSlash]),
    reader("nginx", &[Decode, RefuseNul, Merge, RefuseClimbing, Dots]),
    reader("nginx, merge_slashes off", &[Decode, RefuseNul, RefuseClimbing, Dots]),
    reader("nginx, location by a pattern", &[Decode, RefuseNul, Merge, RefuseClimbing, Dots, LastLineEnd]),
    reader(
        "nginx, then Tomcat",
        &[Decode, RefuseNul, Merge, RefuseClimbing, Dots, Encode, Parameters, Decode, Merge, Dots],
    ),
    reader("nginx that hands on the decoded path", &[Decode, Merge, Dots, Decode, Merge, Dots]),
    reader("HAProxy, normalize-uri", &[DecodeUnreserved, Dots, Merge]),
    reader("HAProxy, then Jetty", &[DecodeUnreserved, Dots, Merge, Parameters, Decode, Dots]),
    reader("Envoy, normalize_path", &[DecodeUnreserved, Backslash, Dots]),
    reader("Envoy, normalize_path and merge_slashes", &[DecodeUnreserved, Backslash, Dots, Merge]),
    reader("Envoy, unescaping slashes", &[DecodeSlashes, DecodeUnreserved, Backslash, Dots, Merge]),
    reader("Apache", &[RefuseEncodedSlash, Decode, RefuseNul, Merge, Dots]),
    reader("Apache, AllowEncodedSlashes On", &[Decode, RefuseNul, Merge, Dots]),
    reader("Apache, AllowEncodedSlashes NoDecode", &[DecodeButSlash, RefuseNul, Merge, Dots]),
    reader(
        "Apache, then Tomcat",
        &[DecodeButSlash, Merge, Dots, Encode, Parameters, DecodeButSlash, Merge, Dots],
    ),
    reader("Apache, rewriting to a decoded path", &[DecodeButSlash, Merge, Dots, CutQuery]),
    reader("Apache on Windows", &[Decode, Backslash, Merge, Dots, TrimEnds]),
    reader("Tomcat", &[RefuseEncodedSlash, Parameters, Decode, Merge, Dots]),
    reader("Tomcat, encoded slashes decoded", &[Parameters, Decode, Merge, Dots]),
    reader("Tomcat, encoded slashes passed through", &[Parameters, DecodeButSlash, Merge, Dots]),
    reader("Tomcat, ALLOW_BACKSLASH", &[Parameters, Decode, Backslash, Merge, Dots]),
    reader("Tomcat of old, lenient UTF-8", &[Parameters, Decode, Overlong, Backslash, Merge, Dots]),
    reader("Jetty", &[Dots, Parameters, Decode]),
    reader("Jetty, compact paths", &[Parameters, Decode, Merge, Dots]),
    reader("Undertow", &[Decode, Parameters, Dots]),
    reader("JAX-RS", &[Parameters, DecodeSegments]),
    reader("Spring MVC", &[Parameters, Decode, Merge, Dots, TrailingSlash]),
    reader("Spring MVC, any suffix", &[Parameters, Decode, Merge, Dots, FirstExtension, TrailingSlash]),
    reader("Spring MVC, trimming tokens", &[Parameters, Decode, Merge, Dots, TrimBlanks]),
    reader("Spring WebFlux", &[Parameters, DecodeSegments, TrailingSlash]),
    reader("HTTP.sys", &[PercentU, Decode, Backslash, Merge, Dots]),
    folding("IIS, ASP.NET", &[PercentU, Decode, Backslash, Merge, Dots, Marker, TrimEnds]),
    folding("IIS of old, decoding twice", &[PercentU, Decode, Decode, Overlong, Backslash, Dots]),
    folding("Kestrel, ASP.NET Core", &[DecodeButSlash, Dots, TrailingSlash]),
    reader("Windows, another code page", &[Decode, BestFit, Backslash, Merge, Dots]),
    reader("Go, ServeMux", &[Decode, Merge, Dots]),
    reader("Go, gorilla/mux of encoded paths", &[Merge, Dots, DecodeSegments]),
    reader("Go, QueryUnescape on a path", &[Plus, Decode]),
    reader("Go, StripSlashes", &[Decode, TrailingSlash]),
    reader("Rust, axum", &[DecodeSegments]),
    reader("Rust, NormalizePath", &[Merge, TrailingSlash, DecodeSegments]),
    reader("WSGI, Flask", &[Decode, Merge]),
    reader("WSGI, Django", &[Decode]),
    reader("WSGI, Django's re_path", &[Decode, LastLineEnd]),
    reader("Python, urlparse", &[Authority, LastParameters, Decode]),
    reader("Starlette", &[Decode, TrailingSlash]),
    reader("Rails", &[Merge, TrailingSlash, LastExtension, DecodeSegments]),
    reader("Rails, without a format", &[Merge, TrailingSlash, DecodeSegments]),
    reader("Rack::File, unescaping forms", &[Plus, Decode, Dots]),
    reader("Phoenix", &[Merge, TrailingSlash, DecodeSegments]),
    reader("PHP, parse_url", &[Authority, Decode, TrailingSlash]),
    reader("PHP, urldecode and trim", &[Plus, Decode, TrimBlanks, Merge, TrailingSlash]),
    reader("PHP, front controller", &[Decode, Merge, Dots, ScriptInFront]),
    reader("PHP, path info", &[Decode, Merge, Dots, AfterScript]),
    reader("CGI in C", &[Decode, CutNul, Merge, Dots]),
    reader("two proxies that decode", &[Decode, Dots, Decode, Dots]),
    reader("three that decode", &[Decode, Decode, Decode]),
];
