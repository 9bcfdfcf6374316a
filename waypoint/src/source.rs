//! Where the mesh and its configuration come from: a folder of manifests, or a control plane.

use std::{path::Path, sync::Arc};

use weir_compile::{Settings, WaypointName};
use weir_discovery::{Folder, SourceError, Timing, Update};
use weir_manifest::Ignored;

use crate::{compiled::State, control::Control};

/// What a change of the source came to.
pub(crate) enum Change {
    /// A new state of everything.
    State(Arc<State>),
    /// What the source holds is not taken, for these reasons; the last good state stays in force.
    Rejected(Vec<String>),
}

/// Where the mesh and its configuration come from.
pub(crate) enum Source {
    /// A folder, followed.
    Folder(Box<Folder<Arc<State>>>),
    /// A control plane, followed.
    Control(Box<Control>),
}

impl Source {
    /// Reads the folder and begins to watch it. Blocks while it reads.
    ///
    /// # Errors
    /// Everything that keeps the folder's contents from being taken.
    pub(crate) fn open(
        folder: &Path,
        settings: Settings,
        gateway: WaypointName,
    ) -> Result<(Arc<State>, Self), Vec<SourceError>> {
        let make = move |objects| Arc::new(State::of(objects, &settings, &gateway));
        let (state, folder) = Folder::open_as(folder, Timing::default(), make)?;
        Ok((state, Self::Folder(Box::new(folder))))
    }

    /// The next change. May be cancelled at any point without losing one.
    pub(crate) async fn next(&mut self) -> Change {
        match self {
            Self::Folder(folder) => match folder.next().await {
                Update::World(state) => Change::State(state),
                Update::Rejected(errors) => {
                    Change::Rejected(errors.iter().map(|error| weir_identity::causes(error)).collect())
                }
            },
            Self::Control(control) => control.next().await,
        }
    }

    /// What it holds that has no effect here.
    pub(crate) fn ignored(&self) -> &[Ignored] {
        match self {
            Self::Folder(folder) => folder.ignored(),
            Self::Control(_) => &[],
        }
    }
}
