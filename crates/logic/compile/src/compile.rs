//! The objects of a folder to the mesh.

use weir_manifest::Objects;
use weir_world::Mesh;

use crate::{Compiler, PolicyStatus, Settings};

/// The mesh that the objects describe, everything sorted by its name.
pub fn compile(objects: Objects, settings: &Settings) -> Mesh {
    compiler(objects, settings).mesh()
}

/// The mesh, and what became of each policy.
pub fn compile_with_status(objects: Objects, settings: &Settings) -> (Mesh, Vec<PolicyStatus>) {
    let compiler = compiler(objects, settings);
    (compiler.mesh(), compiler.statuses())
}

fn compiler(objects: Objects, settings: &Settings) -> Compiler {
    let mut compiler = Compiler::new(settings.clone());
    for object in objects.into_objects() {
        compiler.set(object);
    }
    compiler
}

#[cfg(test)]
#[path = "compile/tests.rs"]
mod tests;
