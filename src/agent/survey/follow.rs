//! What the loop does for the survey: it has peers rest, and resumes them.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::super::event_loop::EventLoop;
use super::Survey;
use super::grants::{Contact, Stage};
use crate::name::NodeName;
use crate::state::{Surveyed, Verdict};

impl EventLoop {
    /// Follows what the survey has granted. Cheap without one.
    pub(in crate::agent) fn follow_survey(&mut self, now: Instant) {
        let survey = Arc::clone(&self.shared.survey);
        let results = survey.lock().grants.take_results();
        for (node, result) in results {
            self.state.set_survey(&node, Surveyed { result, at: SystemTime::now() });
        }
        self.look_at_holder(now, &survey);
        while let Some((node, stage)) = survey.stage(now) {
            let next = self.advance_rest(now, &survey, &node, stage);
            if next == Some(stage) {
                return;
            }
            survey.set_stage(next);
        }
    }

    /// A survey whose coordinator is gone ends here, though its claim holds for minutes.
    fn look_at_holder(&self, now: Instant, survey: &Survey) {
        let mut inner = survey.lock();
        let Some(holder) = inner.grants.holder(now) else { return };
        let record = self.state.get(holder).filter(|record| {
            record.draining_until.is_none() && !matches!(record.verdict, Verdict::Down(_))
        });
        let token = record.map(|record| record.token(&survey.key).echo);
        inner.grants.look(token);
        if inner.grants.holder(now).is_none() {
            survey.changed.notify_all();
        }
    }

    /// The next stage of the rest with this peer; `None` once the peer is resumed.
    fn advance_rest(
        &mut self,
        now: Instant,
        survey: &Survey,
        node: &NodeName,
        stage: Stage,
    ) -> Option<Stage> {
        let lost = (!self.state.is_resting(node)).then_some(Stage::Over("disturbed"));
        match stage {
            Stage::Asked => Some(match self.begin_rest(survey, node) {
                Ok(contact) => {
                    log::info!("rests with {node:?} for a survey");
                    survey.set_contact(contact);
                    Stage::Settling
                }
                Err(reason) => Stage::Over(reason),
            }),
            Stage::Settling => lost.or_else(|| {
                let quiet = self.state.is_quiet(node) && !survey.reads.is_reading(node);
                Some(if quiet { Stage::Quiet } else { stage })
            }),
            Stage::Quiet | Stage::Silent(_) => lost.or(Some(stage)),
            Stage::Over(why) => {
                survey.reads.set_resting(None);
                let resumed = self.state.resume(now, node);
                if resumed.is_some() {
                    log::info!("probes {node:?} again, the rest is over: {why}");
                }
                self.apply(now, resumed.into_iter().collect());
                None
            }
        }
    }

    fn begin_rest(&mut self, survey: &Survey, node: &NodeName) -> Result<Contact, &'static str> {
        self.state.rest(node)?;
        let record = self.state.get(node).ok_or("it is no peer")?;
        let contact = Contact { address: record.peer.address, token: record.token(&survey.key) };
        self.schedule.pause(node);
        survey.reads.set_resting(Some(node.clone()));
        Ok(contact)
    }
}

impl Survey {
    fn stage(&self, now: Instant) -> Option<(NodeName, Stage)> {
        let mut inner = self.lock();
        let rest = inner.grants.current(now)?;
        Some((rest.peer.clone(), rest.stage))
    }

    /// Sets the next stage, unless a thread has ended the rest meanwhile.
    fn set_stage(&self, next: Option<Stage>) {
        let mut inner = self.lock();
        match next {
            None => inner.grants.forget_rest(),
            Some(next) => inner.grants.advance(next),
        }
        drop(inner);
        self.changed.notify_all();
    }

    fn set_contact(&self, contact: Contact) {
        self.lock().grants.set_contact(contact);
    }

    /// A request of a peer that rests has come in.
    pub(in crate::agent) fn hear(&self, at: Instant, node: &NodeName) {
        self.lock().grants.hear(at, node);
        self.changed.notify_all();
    }

    /// The agent has to send something to a peer, whether it rests or not.
    pub(in crate::agent) fn disturb(&self, node: &NodeName) {
        self.lock().grants.end_rest(Some(node), "disturbed");
        self.changed.notify_all();
    }
}
