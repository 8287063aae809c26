//! The objects of `kubectl apply -f manifests/` against the documented promises, the agent's settings, the
//! Pod Security Standard and Kubernetes' schemas.

#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for a missing field")]

mod monitoring;
mod objects;
mod promises;
mod restricted;
mod schemas;
