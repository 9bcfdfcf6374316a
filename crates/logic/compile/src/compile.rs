//! The objects of a folder to the mesh.

use weir_manifest::{Object, Objects};
use weir_world::Mesh;

use crate::{Compiler, Settings};

/// The mesh that the objects describe, everything sorted by its name.
pub fn compile(objects: Objects, settings: &Settings) -> Mesh {
    let mut compiler = Compiler::new(settings.clone());
    let Objects { namespaces, pods, services, endpoint_slices, nodes, ignored: _ } = objects;
    let namespaces = namespaces.into_iter().map(Object::Namespace);
    let nodes = nodes.into_iter().map(Object::Node);
    let services = services.into_iter().map(Object::Service);
    let slices = endpoint_slices.into_iter().map(Object::EndpointSlice);
    let pods = pods.into_iter().map(Object::Pod);
    for object in namespaces.chain(nodes).chain(services).chain(slices).chain(pods) {
        compiler.set(object);
    }
    compiler.mesh()
}

#[cfg(test)]
#[path = "compile/tests.rs"]
mod tests;
