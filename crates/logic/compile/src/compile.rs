//! The objects of a folder to the mesh.

use weir_manifest::Objects;
use weir_world::Mesh;

use crate::{Compiler, Settings};

/// The mesh that the objects describe, everything sorted by its name.
pub fn compile(objects: Objects, settings: &Settings) -> Mesh {
    let mut compiler = Compiler::new(settings.clone());
    for object in objects.into_objects() {
        compiler.set(object);
    }
    compiler.mesh()
}

#[cfg(test)]
#[path = "compile/tests.rs"]
mod tests;
