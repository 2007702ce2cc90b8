//! What a worker is for.

use crate::netns::Place;

/// What a worker is for. It never changes: a thread that has run user code starts no processes of later callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It runs user code.
    Bodies,
    /// It starts processes, and stays for as long as one of them runs.
    Spawner,
    /// As `Bodies`, in views: root, working directory and umask are its own.
    Views,
    /// As `Spawner`, in views.
    ViewSpawner,
}

impl Role {
    pub(super) const ALL: [Role; 4] = [Role::Bodies, Role::Spawner, Role::Views, Role::ViewSpawner];

    /// Whether such a worker has root, working directory and umask to itself.
    pub(crate) fn has_own_files(self) -> bool {
        matches!(self, Role::Views | Role::ViewSpawner)
    }

    /// Of the workers that run bodies in a place.
    pub(crate) fn for_bodies_in(place: &Place) -> Role {
        if place.needs_own_files() { Role::Views } else { Role::Bodies }
    }

    /// The role of the workers that start processes in a place.
    pub(crate) fn for_processes_in(place: &Place) -> Role {
        if place.needs_own_files() { Role::ViewSpawner } else { Role::Spawner }
    }
}
