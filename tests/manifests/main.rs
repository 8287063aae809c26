//! What `kubectl apply -f manifests/` would create, against what the design promises, the settings
//! that the agent knows, the Pod Security Standard and Kubernetes' own schemas.

#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what it has not")]

mod monitoring;
mod objects;
mod promises;
mod restricted;
mod schemas;
