//! The routes that a router really has, so that a table of them that leaves one out is found out.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use tower::ServiceExt;

/// Method and path of each. Paths are read off what axum prints of a router, which tells them nowhere else; what may be
/// asked of one is in its answer to what nobody asks.
pub(crate) async fn routes_of(router: Router) -> Vec<(String, String)> {
    let printed = format!("{router:?}");
    let path = |piece: &'_ str| -> Option<String> {
        let (id, rest) = piece.split_once(')')?;
        id.parse::<usize>().ok()?;
        let path = rest.strip_prefix(": \"")?.split('"').next()?;
        (!path.contains("__private")).then(|| path.to_owned())
    };
    let mut paths: Vec<String> = printed.split("RouteId(").filter_map(path).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut routes = Vec::new();
    for path in paths {
        let named = path
            .split('/')
            .map(|part| if part.starts_with('{') { "0" } else { part });
        let asked = Request::builder()
            .method(Method::TRACE)
            .uri(named.collect::<Vec<_>>().join("/"))
            .body(Body::empty())
            .unwrap();
        let answer = router.clone().oneshot(asked).await.unwrap();
        if answer.status() == StatusCode::NOT_FOUND {
            // What is answered where there is no route has a path too.
            continue;
        }
        let methods = answer.headers().get(header::ALLOW).map(|allow| allow.to_str().unwrap());
        let methods = methods
            .unwrap_or_default()
            .split(',')
            .filter(|method| *method != "HEAD");
        routes.extend(methods.map(|method| (method.to_owned(), path.clone())));
    }
    routes
}
