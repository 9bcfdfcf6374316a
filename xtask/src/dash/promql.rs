//! Queries that several dashboards ask, put together from selectors and labels.

/// Four times between two scrapes at least: Grafana fills it in.
pub(super) const RANGE: &str = "$__rate_interval";
/// Requests, each counted once.
pub(super) const REQUESTS: &str = "istio_requests_total";
/// How long requests took, by bounds.
pub(super) const DURATION: &str = "istio_request_duration_milliseconds_bucket";

/// How fast counters grow, added up.
pub(super) fn rate(metric: &str, selector: &str) -> String {
    format!("sum(rate({metric}{{{selector}}}[{RANGE}]))")
}

/// How fast counters grow, added up for each set of labels.
pub(super) fn rate_by(metric: &str, selector: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({metric}{{{selector}}}[{RANGE}]))")
}

/// The share of requests that were not answered with 5xx. Where all were it is 0, not absent.
pub(super) fn success(selector: &str) -> String {
    let all = rate(REQUESTS, selector);
    let failed = rate(REQUESTS, &format!("{selector},response_code=~\"5..\""));
    format!("1 - ({failed} or 0 * {all}) / {all}")
}

/// The same for each set of labels.
pub(super) fn success_by(selector: &str, by: &str) -> String {
    let all = rate_by(REQUESTS, selector, by);
    let failed = rate_by(REQUESTS, &format!("{selector},response_code=~\"5..\""), by);
    format!("1 - ({failed} or 0 * {all}) / {all}")
}

/// What a share of the observed stays below.
pub(super) fn quantile(share: &str, histogram: &str, selector: &str) -> String {
    format!("histogram_quantile({share}, {})", rate_by(histogram, selector, "le"))
}

/// The same for each set of labels.
pub(super) fn quantile_by(share: &str, histogram: &str, selector: &str, by: &str) -> String {
    format!("histogram_quantile({share}, {})", rate_by(histogram, selector, &format!("{by}, le")))
}

/// Istio's histogram of durations counts milliseconds.
pub(super) fn seconds(milliseconds: &str) -> String {
    format!("{milliseconds} / 1000")
}
