//! Rules for requests. Istio `HTTPRoute`.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use weir_model::NodeName;
use weir_request::Normalization;
use weir_route::{
    Abort, Cors, Credentials, Delay, DirectResponse, Fault, GrpcStatus, HeaderName, Localities, OriginMatch,
    PathRewrite, Percent, Redirect, RedirectPort, RegexRewrite, RetryOn, RetryPolicy, Rewrite, SameEndpoint, Scheme,
    StringMatch, Unmatched,
};

use super::{MAX_ROUTES, Reading};
use crate::{
    error::Cause,
    object::{VirtualAct, VirtualDelegate, VirtualHttp, VirtualMirror, VirtualRetries},
    reader::{At, Fields},
};

/// What is written into a rule is spelt as the paths of requests are when nothing else is asked for. Istio `pathNormalization`, `BASE`.
const LEVEL: Normalization = Normalization::Base;

const FIELDS: &[&str] = &[
    "corsPolicy",
    "delegate",
    "directResponse",
    "fault",
    "headers",
    "match",
    "mirror",
    "mirrorPercent",
    "mirrorPercentage",
    "mirror_percent",
    "mirrors",
    "name",
    "redirect",
    "retries",
    "rewrite",
    "route",
    "timeout",
];

const ACT: &str = "one of route, redirect, directResponse and delegate";
const STATUS: &str = "a status, 200 to 599";

impl Reading<'_> {
    /// One of `http`.
    pub(super) fn http(&mut self, at: &At<'_>) -> Option<VirtualHttp> {
        let fields = self.reader.fields(at, FIELDS)?;
        let act = self.act(at, &fields);
        let headers = fields.field("headers").and_then(|at| self.headers(&at));
        let rewrite = fields.field("rewrite").and_then(|at| {
            match act {
                Some(VirtualAct::Redirect(_)) => self.not_with::<()>(&at, "redirect"),
                Some(VirtualAct::Respond(_)) => self.not_with(&at, "directResponse"),
                Some(VirtualAct::Route(_) | VirtualAct::Delegate(_)) | None => None,
            };
            self.rewrite(&at)
        });
        Some(VirtualHttp {
            line: at.node.line,
            name: self.label(fields.field("name")),
            matches: self.matches(&fields, Self::http_match),
            headers,
            rewrite,
            timeout: self.time(fields.field("timeout")),
            retries: fields.field("retries").and_then(|at| self.retries(&at)),
            fault: fields.field("fault").and_then(|at| self.fault(&at)),
            mirrors: self.mirrors(&fields),
            cors: fields.field("corsPolicy").and_then(|at| self.cors(&at)),
            act: act?,
        })
    }

    fn act(&mut self, at: &At<'_>, fields: &Fields<'_>) -> Option<VirtualAct> {
        let routes = fields.field("route").filter(|at| !at.node.is_empty_list());
        let (redirect, respond) = (fields.field("redirect"), fields.field("directResponse"));
        match (routes, redirect, respond, fields.field("delegate")) {
            (Some(_), None, None, None) => {
                let known = &["destination", "headers", "weight"];
                Some(VirtualAct::Route(self.routes(fields, known)))
            }
            (None, Some(at), None, None) => self.redirect(&at).map(VirtualAct::Redirect),
            (None, None, Some(at), None) => self.respond(&at).map(VirtualAct::Respond),
            (None, None, None, Some(at)) => self.delegate(&at).map(VirtualAct::Delegate),
            (None, None, None, None) => {
                self.reader.fail(at, Cause::Missing { expected: ACT });
                None
            }
            (_, _, _, Some(at)) => self.not_with(&at, "route, redirect or directResponse"),
            (_, _, Some(at), None) => self.not_with(&at, "route or redirect"),
            (_, Some(at), None, None) => self.not_with(&at, "route"),
        }
    }

    fn delegate(&mut self, at: &At<'_>) -> Option<VirtualDelegate> {
        let fields = self.reader.fields(at, &["name", "namespace"])?;
        let namespace = match self.reader.some_text(fields.field("namespace")) {
            Some((_, at)) => Some(self.reader.name(&at)?),
            None => None,
        };
        let name = self.reader.required(&fields, "name", "the name of a VirtualService")?;
        let name: NodeName = self.reader.parse(&name, "the name of a VirtualService")?;
        Some(VirtualDelegate { namespace, name: name.as_str().into() })
    }

    fn redirect(&mut self, at: &At<'_>) -> Option<Redirect> {
        let known = &["authority", "derivePort", "port", "prefixRewrite", "redirectCode", "scheme", "uri"];
        let fields = self.reader.fields(at, known)?;
        if known.iter().all(|name| fields.field(name).is_none()) {
            return self.reader.expected(at, "at least one field");
        }
        let code = match fields.field("redirectCode") {
            Some(at) => self.reader.expect_u16(&at, "a status that redirects, such as 301")?,
            None => 301,
        };
        let mut redirect = self.usable(at, Redirect::new(code))?;
        if let Some(at) = fields.field("scheme") {
            redirect = redirect.with_scheme(match self.text(&at)? {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return self.reader.expected(&at, "\"http\" or \"https\""),
            });
        }
        if let Some(at) = fields.field("authority") {
            let text = self.text(&at)?;
            redirect = self.usable(&at, redirect.with_authority(text))?;
        }
        if let Some(port) = self.redirect_port(&fields)? {
            redirect = redirect.with_port(port);
        }
        match (fields.field("uri"), fields.field("prefixRewrite")) {
            (None, None) => Some(redirect),
            (Some(at), Some(_)) => self.not_with(&at, "prefixRewrite"),
            (None, Some(at)) => {
                let text = self.text(&at)?;
                let path = self.usable(&at, PathRewrite::prefix(text, LEVEL))?;
                Some(redirect.with_path(path))
            }
            (Some(at), None) => {
                let text = self.text(&at)?;
                let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
                let path = self.usable(&at, PathRewrite::whole(path, LEVEL))?;
                let redirect = redirect.with_path(path);
                match query {
                    Some(query) => self.usable(&at, redirect.with_query(query)),
                    None => Some(redirect),
                }
            }
        }
    }

    /// `port` or `derivePort`; within, none if neither is said.
    fn redirect_port(&mut self, fields: &Fields<'_>) -> Option<Option<RedirectPort>> {
        match (fields.field("port"), fields.field("derivePort")) {
            (None, None) => Some(None),
            (Some(at), None) => self.reader.port(&at).map(|port| Some(RedirectPort::Is(port))),
            (None, Some(at)) => match self.text(&at)? {
                "FROM_PROTOCOL_DEFAULT" => Some(Some(RedirectPort::OfScheme)),
                "FROM_REQUEST_PORT" => Some(Some(RedirectPort::OfRequest)),
                _ => self.reader.expected(&at, "\"FROM_PROTOCOL_DEFAULT\" or \"FROM_REQUEST_PORT\""),
            },
            (Some(at), Some(_)) => self.not_with(&at, "derivePort"),
        }
    }

    fn respond(&mut self, at: &At<'_>) -> Option<DirectResponse> {
        let fields = self.reader.fields(at, &["body", "status"])?;
        let body = match fields.field("body") {
            Some(at) => self.body(&at)?,
            None => Vec::new(),
        };
        let status_at = self.reader.required(&fields, "status", STATUS)?;
        let status = self.reader.expect_u16(&status_at, STATUS)?;
        self.usable(at, DirectResponse::new(status, &body))
    }

    fn body(&mut self, at: &At<'_>) -> Option<Vec<u8>> {
        let fields = self.reader.fields(at, &["bytes", "string"])?;
        match (fields.field("string"), fields.field("bytes")) {
            (None, None) => Some(Vec::new()),
            (Some(at), None) => Some(self.long_text(&at)?.as_bytes().to_vec()),
            (None, Some(at)) => {
                let read = STANDARD.decode(self.long_text(&at)?).ok();
                read.or_else(|| self.reader.expected(&at, "base64"))
            }
            (Some(at), Some(_)) => self.not_with(&at, "bytes"),
        }
    }

    fn rewrite(&mut self, at: &At<'_>) -> Option<Rewrite> {
        let fields = self.reader.fields(at, &["authority", "uri", "uriRegexRewrite"])?;
        let authority = match fields.field("authority") {
            Some(at) => Some(self.text(&at)?),
            None => None,
        };
        let path = match (fields.field("uri"), fields.field("uriRegexRewrite")) {
            (None, None) if authority.is_none() => return self.reader.expected(at, "at least one field"),
            (None, None) => None,
            (Some(at), None) => {
                let text = self.text(&at)?;
                Some(self.usable(&at, PathRewrite::prefix(text, LEVEL))?)
            }
            (None, Some(at)) => Some(self.regex_rewrite(&at)?),
            (Some(at), Some(_)) => return self.not_with(&at, "uriRegexRewrite"),
        };
        self.usable(at, Rewrite::new(path, authority))
    }

    fn regex_rewrite(&mut self, at: &At<'_>) -> Option<PathRewrite> {
        let fields = self.reader.fields(at, &["match", "rewrite"])?;
        let pattern = self.reader.required(&fields, "match", "a regular expression")?;
        self.counts_pattern(&pattern)?;
        let pattern = self.text(&pattern)?;
        let substitution = match fields.field("rewrite") {
            Some(at) => self.text(&at)?,
            None => "",
        };
        self.usable(at, RegexRewrite::new(pattern, substitution)).map(PathRewrite::regex)
    }

    fn retries(&mut self, at: &At<'_>) -> Option<VirtualRetries> {
        let known =
            &["attempts", "backoff", "perTryTimeout", "retryIgnorePreviousHosts", "retryOn", "retryRemoteLocalities"];
        let fields = self.reader.fields(at, known)?;
        let attempts = match fields.field("attempts") {
            Some(at) => self.count(Some(at))?,
            None => 0,
        };
        for name in known.iter().filter(|name| attempts == 0 && **name != "attempts") {
            if let Some(at) = fields.field(name) {
                self.reader.fail(&at, Cause::OnlyWith { other: "attempts of at least 1: without them there are none" });
            }
        }
        let on = match self.reader.some_text(fields.field("retryOn")) {
            Some((text, at)) => self.usable(&at, text.parse::<RetryOn>())?,
            None => RetryOn::default(),
        };
        let backoff = self.time(fields.field("backoff"));
        let mut policy = self.usable(at, RetryPolicy::new(attempts, on, backoff))?;
        if self.reader.boolean(fields.field("retryIgnorePreviousHosts")) == Some(false) {
            policy.same_endpoint = SameEndpoint::Allowed;
        }
        if self.reader.boolean(fields.field("retryRemoteLocalities")) == Some(true) {
            policy.localities = Localities::Remote;
        }
        Some(VirtualRetries { policy, attempt: self.time(fields.field("perTryTimeout")) })
    }

    fn fault(&mut self, at: &At<'_>) -> Option<Fault> {
        let fields = self.reader.fields(at, &["abort", "delay"])?;
        let (delay, abort) = (fields.field("delay"), fields.field("abort"));
        if delay.is_none() && abort.is_none() {
            return self.reader.expected(at, "delay, abort or both");
        }
        let delay = match delay {
            Some(at) => Some(self.delay(&at)?),
            None => None,
        };
        let abort = match abort {
            Some(at) => Some(self.abort(&at)?),
            None => None,
        };
        self.usable(at, Fault::new(delay, abort))
    }

    /// `delay`. A share that is not said is none: no request waits.
    fn delay(&mut self, at: &At<'_>) -> Option<Delay> {
        let fields = self.reader.fields(at, &["fixedDelay", "percent", "percentage"])?;
        let share = match (fields.field("percentage"), fields.field("percent")) {
            (Some(at), _) => self.percentage(Some(at))?,
            (None, Some(at)) => self.percent(Some(at))?,
            (None, None) => Percent::default(),
        };
        let time = self.reader.required(&fields, "fixedDelay", "a duration");
        let time: Duration = self.time(Some(time?))?;
        self.usable(at, Delay::new(time, share))
    }

    /// `abort`. A share that is not said is none: no request is answered so.
    fn abort(&mut self, at: &At<'_>) -> Option<(Abort, Percent)> {
        let fields = self.reader.fields(at, &["grpcStatus", "httpStatus", "percentage"])?;
        let abort = match (fields.field("httpStatus"), fields.field("grpcStatus")) {
            (Some(at), None) => Abort::Http(self.reader.expect_u16(&at, STATUS)?),
            (None, Some(at)) => {
                let text = self.text(&at)?;
                Abort::Grpc(self.usable(&at, text.parse::<GrpcStatus>())?)
            }
            (Some(at), Some(_)) => return self.not_with(&at, "grpcStatus"),
            (None, None) => return self.reader.expected(at, "httpStatus or grpcStatus"),
        };
        let share = match fields.field("percentage") {
            Some(at) => self.percentage(Some(at))?,
            None => Percent::default(),
        };
        Some((abort, share))
    }

    /// `mirror` with its percentage in any of its forms, or `mirrors`. A share that is not said is all.
    fn mirrors(&mut self, fields: &Fields<'_>) -> Option<Vec<VirtualMirror>> {
        const SHARES: [&str; 3] = ["mirrorPercentage", "mirrorPercent", "mirror_percent"];
        let (one, several) = (fields.field("mirror"), fields.field("mirrors"));
        if one.is_none() {
            for at in SHARES.iter().filter_map(|name| fields.field(name)) {
                self.reader.fail(&at, Cause::OnlyWith { other: "mirror" });
            }
        }
        match (one, several) {
            (None, None) => None,
            (Some(at), Some(_)) => self.not_with(&at, "mirrors"),
            (Some(at), None) => {
                let [percentage, percent, old] = SHARES.map(|name| fields.field(name));
                let percent = match (percentage, percent.or(old)) {
                    (Some(at), _) => self.percentage(Some(at))?,
                    (None, Some(at)) => self.percent(Some(at))?,
                    (None, None) => Percent::EVERY,
                };
                Some(vec![VirtualMirror { destination: self.destination(&at)?, percent }])
            }
            (None, Some(at)) => {
                let items = self.reader.few(Some(at), "mirrors", MAX_ROUTES);
                Some(items.iter().filter_map(|at| self.mirror(at)).collect())
            }
        }
    }

    fn mirror(&mut self, at: &At<'_>) -> Option<VirtualMirror> {
        let fields = self.reader.fields(at, &["destination", "percentage"])?;
        let percent = match fields.field("percentage") {
            Some(at) => self.percentage(Some(at))?,
            None => Percent::EVERY,
        };
        let at = self.reader.required(&fields, "destination", "a map with at least a host")?;
        Some(VirtualMirror { destination: self.destination(&at)?, percent })
    }

    fn cors(&mut self, at: &At<'_>) -> Option<Cors> {
        let known = &[
            "allowCredentials",
            "allowHeaders",
            "allowMethods",
            "allowOrigin",
            "allowOrigins",
            "exposeHeaders",
            "maxAge",
            "unmatchedPreflights",
        ];
        let fields = self.reader.fields(at, known)?;
        let token = |reading: &mut Self, at: &At<'_>, text: &str| {
            let name = reading.usable(at, text.parse::<HeaderName>());
            name.map(|_| Box::<str>::from(text))
        };
        let old = self
            .list(fields.field("allowOrigin"), |_, _, text| Some(OriginMatch::text(StringMatch::Exact(text.into()))));
        let origins = self.reader.few(fields.field("allowOrigins"), "origins", super::MAX_ENTRIES);
        let origins = origins.iter().filter_map(|at| match self.comparison(at)? {
            StringMatch::Present => self.reader.expected(at, "exact, prefix or regex"),
            wanted @ (StringMatch::Exact(_) | StringMatch::Prefix(_) | StringMatch::Regex(_)) => {
                Some(OriginMatch::text(wanted))
            }
        });
        let origins = origins.chain(old).collect();
        let credentials = match self.reader.boolean(fields.field("allowCredentials")) {
            Some(true) => Credentials::Allowed,
            Some(false) | None => Credentials::Refused,
        };
        let unmatched = match fields.field("unmatchedPreflights") {
            None => Unmatched::Forwarded,
            Some(at) => match self.text(&at)? {
                "UNSPECIFIED" | "FORWARD" => Unmatched::Forwarded,
                "IGNORE" => Unmatched::Answered,
                _ => return self.reader.expected(&at, "\"UNSPECIFIED\", \"FORWARD\" or \"IGNORE\""),
            },
        };
        Some(Cors {
            origins,
            methods: self.list(fields.field("allowMethods"), token),
            request_headers: self.list(fields.field("allowHeaders"), token),
            exposed_headers: self
                .list(fields.field("exposeHeaders"), |reading, at, text| reading.usable(at, text.parse())),
            max_age: self.time(fields.field("maxAge")),
            credentials,
            unmatched,
        })
    }
}
