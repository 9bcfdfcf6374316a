//! Host names with wildcards. Gateway API v1 `Hostname`: `*.` stands for one label or more.

use weir_model::Hostname;

/// Whether every host that `inner` means is one that `outer` means.
pub(super) fn covers(outer: &Hostname, inner: &Hostname) -> bool {
    let (outer, inner) = (outer.as_str(), inner.as_str());
    match outer.strip_prefix('*') {
        Some(suffix) => inner.strip_prefix('*').unwrap_or(inner).ends_with(suffix),
        None => outer == inner,
    }
}

/// Whether there are no names, or one covers the host.
pub(super) fn admit<'h>(names: impl IntoIterator<Item = &'h Hostname>, host: &Hostname) -> bool {
    let mut names = names.into_iter().peekable();
    names.peek().is_none() || names.any(|name| covers(name, host))
}

/// Whether a listener's host name, if it has one, and one of a route's, if it has any, mean a host in common.
pub(super) fn meet(listener: Option<&Hostname>, route: &[Hostname]) -> bool {
    let Some(listener) = listener else { return true };
    route.is_empty() || route.iter().any(|name| covers(listener, name) || covers(name, listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label_or_more() {
        for (listener, route, want) in [
            (None, vec![], true),
            (None, vec!["a.b"], true),
            (Some("test.example.com"), vec![], true),
            (Some("test.example.com"), vec!["test.example.com"], true),
            (Some("test.example.com"), vec!["*.example.com"], true),
            (Some("test.example.com"), vec!["other.example.com"], false),
            (Some("*.example.com"), vec!["*.example.com"], true),
            (Some("*.example.com"), vec!["test.example.com"], true),
            (Some("*.example.com"), vec!["foo.test.example.com"], true),
            (Some("*.example.com"), vec!["*.test.example.com"], true),
            (Some("*.test.example.com"), vec!["*.example.com"], true),
            (Some("*.example.com"), vec!["example.com"], false),
            (Some("*.example.com"), vec!["test.example.net", "badexample.com"], false),
        ] {
            let names: Vec<Hostname> = route.iter().map(|name| name.parse().unwrap()).collect();
            let listener: Option<Hostname> = listener.map(|name| name.parse().unwrap());
            assert_eq!(meet(listener.as_ref(), &names), want, "{listener:?} {route:?}");
        }
        let host: Hostname = "web.shop.svc.cluster.local".parse().unwrap();
        for (names, want) in [
            (vec![], true),
            (vec!["web.shop.svc.cluster.local"], true),
            (vec!["a.b", "*.shop.svc.cluster.local"], true),
            (vec!["*.web.shop.svc.cluster.local"], false),
            (vec!["a.b"], false),
        ] {
            let names: Vec<Hostname> = names.iter().map(|name| name.parse().unwrap()).collect();
            assert_eq!(admit(&names, &host), want, "{names:?}");
        }
    }
}
