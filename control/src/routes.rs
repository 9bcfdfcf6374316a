//! What became of what shapes requests: compiled whole, beside the task that follows the mesh, for what is said of it in statuses.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, task::spawn_blocking, time::sleep};
use weir_compile::{Compiler, Configs, Settings, routes};
use weir_world::World;

use crate::status::Statuses;

/// At least so long after each time it is not compiled again: changes gather.
const PACE: Duration = Duration::from_millis(200);

/// What shapes requests, as it is now: of several changes the last counts.
#[derive(Debug)]
pub(crate) struct Shapes {
    settings: Settings,
    newest: Mutex<Option<(World, Configs)>>,
    changed: Notify,
}

impl Shapes {
    /// Nothing yet.
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, newest: Mutex::default(), changed: Notify::new() }
    }

    /// It is so now.
    pub(crate) fn put(&self, compiler: &Compiler) {
        let now = (compiler.world().clone(), compiler.configs().clone());
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.changed.notify_one();
    }

    fn taken(&self) -> Option<(World, Configs)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Compiles what is put there, until `ended`.
pub(crate) async fn follow(shapes: Arc<Shapes>, statuses: Arc<Statuses>, ended: impl Future<Output = ()>) {
    let mut ended = pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            () = shapes.changed.notified() => {}
        }
        let Some((world, configs)) = shapes.taken() else { continue };
        let (settings, statuses) = (shapes.settings.clone(), statuses.clone());
        let compiled = spawn_blocking(move || {
            let compiled = routes(&settings, &world, &configs);
            statuses.take_shaping(&compiled, &configs);
        });
        if let Err(error) = compiled.await {
            // It is never cancelled: what is left is a panic, which is ours as well.
            std::panic::resume_unwind(error.into_panic());
        }
        tokio::select! {
            () = &mut ended => return,
            () = sleep(PACE) => {}
        }
    }
}
