//! The answers about the past: what this agent remembers, and what it gathers from the others.

use std::borrow::Cow;
use std::iter::once;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::{Content, NOT_FOUND, Refusal, UNRESPONSIVE, passed_on};
use crate::document::{
    Chunks, MAX_FAULTS, MAX_PAST_PEER, MAX_ROW, day_json, faults_json, history_json, matrix_json,
    past_pair_json, past_peer_json, past_row_json, read_faults, read_row,
};
use crate::gzip::Level;
use crate::history::{DAY, Recollection, begin_of_bin, is_row_of};
use crate::matrix::RowError;
use crate::name::NodeName;
use crate::route::Route;
use crate::server::{Ask, Views};
use crate::wire;

/// The JSON document of a route of the past.
pub(super) fn document(
    route: &Route,
    level: Option<Level>,
    views: &dyn Views,
) -> Result<Content, Refusal> {
    let (node, instance) = (views.node(), views.instance());
    let recollection = || views.recollection().ok_or(UNRESPONSIVE);
    let content = |render: &dyn Fn() -> Chunks| Content::of(level, views, true, render);
    let short = |text: Vec<u8>| content(&|| Box::new(once(text.clone())));
    match route {
        Route::History => {
            let recollection = recollection()?;
            Ok(content(&|| history_json(node, instance, &recollection)))
        }
        Route::Faults => {
            let recollection = recollection()?;
            Ok(content(&|| faults_json(node, instance, &recollection)))
        }
        Route::PastPeer(peer) => {
            let peer = past_peer_json(node, instance, &*recollection()?, peer);
            Ok(short(peer.ok_or(NOT_FOUND)?))
        }
        Route::PastRow(at) => {
            let recollection = recollection()?;
            let Some(row) = recollection.row_at(*at).map(Arc::new) else {
                let (_, now) = range(&recollection);
                return Err(out_of_range((recollection.since().unwrap_or(now), now)));
            };
            Ok(content(&|| past_row_json(node, instance, &row)))
        }
        Route::PastMatrix(at) => {
            let recollection = recollection()?;
            let (from, to) = range(&recollection);
            if !(from..=to).contains(at) {
                return Err(out_of_range((from, to)));
            }
            let matrix = views.past_matrix(&recollection, *at).ok_or(UNRESPONSIVE)?;
            let level = level.map(|_| Level::Fast);
            Ok(Content::of(level, views, true, &|| matrix_json(&matrix)))
        }
        Route::Day => {
            let day = views.day().ok_or(UNRESPONSIVE)?;
            Ok(content(&|| day_json(&day)))
        }
        Route::PastRowOf(at, peer) => {
            let path = format!("{}/{at}", wire::PAST_ROW_PATH);
            let ask = Ask { path, max_bytes: MAX_ROW, is_for_another: true };
            let is_valid = |row: &[u8]| read_row(peer, row).is_ok_and(|row| is_row_of(&row, *at));
            passed_on(views, peer, ask, &is_valid).map(short)
        }
        Route::FaultsOf(peer) => {
            let path = wire::FAULTS_PATH.to_owned();
            let ask = Ask { path, max_bytes: MAX_FAULTS, is_for_another: true };
            passed_on(views, peer, ask, &|faults| read_faults(peer, faults).is_ok()).map(short)
        }
        Route::PastPair(source, target) => pair(views, source, target).map(short),
        _ => Err(NOT_FOUND.into()),
    }
}

/// One pair as its source remembers it.
fn pair(views: &dyn Views, source: &NodeName, target: &NodeName) -> Result<Vec<u8>, Refusal> {
    let remembered = if source == views.node() {
        let recollection = views.recollection().ok_or(UNRESPONSIVE)?;
        let own = past_peer_json(source, views.instance(), &recollection, target);
        Ok(own.ok_or(NOT_FOUND)?)
    } else {
        let snapshot = views.snapshot().ok_or(UNRESPONSIVE)?;
        let path = format!("{}/{target}", wire::PAST_PEER_PATH);
        let ask = Ask { path, max_bytes: MAX_PAST_PEER, is_for_another: false };
        views.fetch(&snapshot, source, ask).map_err(RowError::of_the_past)
    };
    Ok(past_pair_json(source, target, remembered.as_deref().map_err(|error| *error)))
}

/// The seconds of which a mesh remembers something: from the begin of a cell, or of that of this agent.
fn range(recollection: &Recollection) -> (u64, u64) {
    let since = recollection.taken.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = since.as_secs();
    let from = begin_of_bin(now.saturating_sub(DAY));
    (recollection.since().map_or(from, |since| since.min(from)), now)
}

fn out_of_range((from, to): (u64, u64)) -> Refusal {
    let text = format!("no history of that time: it reaches from {from} to {to} (Unix seconds)\n");
    Refusal(404, Cow::Owned(text))
}
