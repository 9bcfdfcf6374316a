//! The agent's end.

use std::{collections::BTreeSet, fmt, time::Duration};

use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::{Code, Request, Status, client::Grpc};
use tonic_prost::ProstCodec;
use weir_rpc::{Channel, Dial, DialError};

use crate::messages::{Caught, Heard, REPORT, Report};

/// How long a report may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a report was not heard.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is no connection.
    #[error("the control plane cannot be reached")]
    Dial(#[source] DialError),
    /// It refused, or the call broke off.
    #[error("the report was not taken")]
    Refused(#[source] Box<Status>),
    /// No answer in time.
    #[error("no answer to a report within {DEADLINE:?}")]
    Late,
}

/// Reports to one control plane, over one connection that is made when it is needed.
pub struct Reporter {
    dial: Dial,
    channel: Option<Channel>,
}

impl Reporter {
    /// To the control plane behind `dial`.
    pub fn new(dial: Dial) -> Self {
        Self { dial, channel: None }
    }

    /// Reports all pods that are caught. A control plane that takes no reports, such as istiod, has heard it too.
    ///
    /// # Errors
    /// It was not heard: report again.
    pub async fn report(&mut self, pods: &BTreeSet<Caught>) -> Result<(), ReportError> {
        let told = timeout(DEADLINE, self.tell(pods)).await.unwrap_or(Err(ReportError::Late));
        if told.is_err() {
            self.channel = None;
        }
        told
    }

    async fn tell(&mut self, pods: &BTreeSet<Caught>) -> Result<(), ReportError> {
        let channel = match &self.channel {
            Some(channel) => channel.clone(),
            None => self.channel.insert(self.dial.connect().await.map_err(ReportError::Dial)?).clone(),
        };
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.map_err(ReportError::Dial)?;
        let report = Request::new(Report { pods: pods.iter().cloned().collect() });
        let codec = ProstCodec::<Report, Heard>::default();
        match grpc.unary(report, PathAndQuery::from_static(REPORT), codec).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::Unimplemented => Ok(()),
            Err(status) => Err(ReportError::Refused(Box::new(status))),
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("target", &self.dial.target).finish_non_exhaustive()
    }
}
