//! What stands before requests: tokens, policies, and what is told of them.

use std::sync::Arc;

use weir_authz::http::HttpPolicies;
use weir_model::TelemetrySettings;
use weir_request::Normalization;
use weir_token::TokenRules;

/// What stands before the requests to one service, or to pods by their own addresses.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Which tokens are looked for, and what they must be. RequestAuthentication.
    pub tokens: Arc<TokenRules>,
    /// Who may ask for what. AuthorizationPolicy.
    pub policies: Arc<HttpPolicies>,
    /// What is told of requests. Telemetry.
    pub telemetry: Arc<TelemetrySettings>,
}

impl Default for Guard {
    /// Nothing is asked of anybody.
    fn default() -> Self {
        let policies = HttpPolicies::new([], Normalization::default());
        Self { tokens: Arc::default(), policies: Arc::new(policies), telemetry: Arc::default() }
    }
}
