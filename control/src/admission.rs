//! The validating webhook: API servers ask before they keep an object, and are answered by what the mesh makes of it.

mod known;
mod trust;

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{net::TcpListener, sync::Semaphore, sync::watch, task::spawn_blocking, time::timeout};
use weir_analyze::{MAX_REVIEW, Review, ReviewError, Verdict};
use weir_compile::Settings;
use weir_rpc::{Question, Reply, ServerTls, serve_https};

pub(crate) use known::Known;
pub(crate) use trust::trust;

/// Where reviews are asked for.
const PATH: &str = "/validate";
/// Reviews judged at once: each may need a processor for a moment.
const AT_ONCE: usize = 2;
/// How long an answer may take, waiting included. The configuration in `deploy/base/webhook.yaml` waits for 5 s.
const DEADLINE: Duration = Duration::from_secs(4);

/// Answers reviews until `ended`. Until the mesh is read nobody is told anything but that.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerTls>>,
    settings: Settings,
    known: Arc<Known>,
    ended: impl Future<Output = ()>,
) {
    let (settings, turns) = (Arc::new(settings), Arc::new(Semaphore::new(AT_ONCE)));
    let answer = move |question: Question| {
        let (settings, known, turns) = (settings.clone(), known.clone(), turns.clone());
        async move {
            let answered = timeout(DEADLINE, async {
                let turn = turns.acquire_owned().await.expect("the semaphore is never closed");
                // The turn is kept until it is judged, even when nobody waits for the answer any more.
                let judging = spawn_blocking(move || {
                    let reply = judged(&question, &settings, &known);
                    drop(turn);
                    reply
                });
                match judging.await {
                    Ok(reply) => reply,
                    // It is never cancelled: what is left is a panic, which is ours as well.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
            });
            let late = || format!("no answer within {} s: too many reviews at once", DEADLINE.as_secs());
            answered.await.unwrap_or_else(|_| Err((StatusCode::SERVICE_UNAVAILABLE, late())))
        }
    };
    serve_https(listener, tls, MAX_REVIEW, answer, ended).await;
}

fn judged(question: &Question, settings: &Settings, known: &Known) -> Reply {
    if question.path != PATH {
        return Err((StatusCode::NOT_FOUND, format!("expected {PATH}")));
    }
    let review = Review::read(&question.body).map_err(|error| {
        let status = match error {
            ReviewError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ReviewError::Form(_) | ReviewError::Version { .. } | ReviewError::Uid { .. } => StatusCode::BAD_REQUEST,
        };
        (status, error.to_string())
    })?;
    if review.passes() {
        return Ok(review.answer(&Verdict::default()));
    }
    if !known.is_whole() {
        let why = "the mesh is not read yet: what an object does among the others is not known; ask again";
        return Err((StatusCode::SERVICE_UNAVAILABLE, why.to_owned()));
    }
    let verdict = review.judge(settings, |_| known.objects());
    known.count(&verdict);
    if !verdict.refused.is_empty() {
        tracing::info!(why = verdict.refused.join("; "), "an object was refused");
    }
    Ok(review.answer(&verdict))
}
