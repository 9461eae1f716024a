//! Small lists: joined with those in force, and into force.

use tokio::time::Instant;

use crate::control::Control;
use crate::control::compile::job::{NewBase, Wanted};
use crate::control::journal::entry::Cause;
use crate::control::publish::delta::Joined;
use crate::control::publish::{compose, provenance};
use crate::control::sources::lists::load::{Fresh, Refusal};
use crate::control::sources::lists::reading::{Ready, broken, log_load};
use crate::control::sources::lists::state::{ListState, has_load};
use crate::control::sources::pending::PendingConfig;
use crate::policy::image::TooLarge;

impl Control {
    /// Starts to join what is ready, unless that is under way.
    pub(crate) fn start_joining(&mut self) {
        // A rollback under way drops a new configuration, or finds it in force.
        let rolling = self.rollback.running.is_some();
        let waits = self
            .rollback
            .running
            .as_ref()
            .is_some_and(|it| !it.allows_changes());
        if self.delta.joining || waits || !self.is_something_ready() {
            return;
        }
        self.delta.joining = true;
        self.delta.joining_since = self.rollback.epoch;
        let version = self.scheduler.registry.version();
        let whole = |pending: &mut PendingConfig| !rolling && pending.is_whole(version);
        let mut pending = self.lists.pending.take_if(whole);
        let registry = pending.as_mut().and_then(|pending| pending.registry.take());
        self.delta.joining_config = pending.is_some();
        let base = self
            .compiler
            .base
            .take_if(|base| !base.staged || pending.is_some());
        let (ready, kept) = self.parts(pending.as_ref(), base.as_ref());
        let delta = self.publication.images.delta.clone();
        let send = self.delta.joined.0.clone();
        let based = base.iter().flat_map(|base| &base.wanted);
        let based = based.map(|wanted| wanted.ticket);
        let tickets: Vec<_> = ready
            .iter()
            .map(|ready| ready.ticket)
            .chain(based)
            .collect();
        let joining = tokio::task::spawn_blocking(move || {
            let staged = pending.iter().flat_map(|pending| &pending.lists);
            let staged = staged.filter_map(|list| {
                let source = provenance::source(&list.config, list.loaded.as_ref()?);
                Some((list.rules.as_ref()?, source))
            });
            let fresh = ready.iter().map(|ready| {
                let Fresh { loaded, image } = &ready.fresh;
                (image, provenance::source(&ready.config, loaded))
            });
            let fresh = fresh.chain(staged);
            let stays = |name: &str| kept.iter().any(|kept| kept == name);
            let result = compose::join(delta.as_deref(), stays, fresh);
            Joined {
                ready,
                base,
                pending: pending.zip(registry.map(|(_, registry)| registry)),
                result,
            }
        });
        tokio::spawn(async move {
            let joined = joining.await.map_err(|_| tickets);
            // Nobody waits when the server ends.
            let _ = send.send(joined).await;
        });
    }

    fn is_something_ready(&self) -> bool {
        let version = self.scheduler.registry.version();
        let whole = |pending: &PendingConfig| pending.is_whole(version);
        let staged =
            self.rollback.running.is_none() && self.lists.pending.as_ref().is_some_and(whole);
        let based = self.compiler.base.as_ref().is_some_and(|base| !base.staged);
        staged || based || !self.delta.ready.is_empty()
    }

    /// The lists that are read and wanted, and the names of those that stay as they are.
    fn parts(
        &mut self,
        pending: Option<&PendingConfig>,
        base: Option<&NewBase>,
    ) -> (Vec<Ready>, Vec<String>) {
        // A list that means something else by now is no longer what was compiled.
        let counts = |wanted: &Wanted| {
            let mut lists = self.lists.active.iter();
            wanted.staged || lists.any(|list| has_load(list, wanted.ticket))
        };
        let based = base.iter().flat_map(|base| base.loaded());
        let based = based.filter(|(wanted, _)| counts(wanted));
        let based = based.map(|(wanted, _)| wanted.config.source.name.clone());
        // A list that has changed since it moved into the base stays before it.
        let moved = base.iter().flat_map(|base| &base.moved);
        let moved =
            moved.filter(|source| self.publication.images.in_delta(&source.name) == Some(source));
        let based: Vec<_> = based
            .chain(moved.map(|source| source.name.clone()))
            .collect();
        let based = |name: &str| based.iter().any(|based| based == name);
        let replaced = |name: &str| {
            let fresh = pending.iter().flat_map(|pending| &pending.lists);
            fresh.into_iter().any(|list| list.name() == name)
        };
        let (gone, ready) = std::mem::take(&mut self.delta.ready)
            .into_iter()
            .partition::<Vec<_>, _>(|ready| replaced(&ready.config.source.name));
        for ready in gone {
            self.requests.dismiss(ready.ticket);
        }
        let fresh = |name: &str| ready.iter().any(|ready| ready.config.source.name == name);
        let new = |name: &str| fresh(name) || replaced(name) || based(name);
        let names = self.lists.active.iter().map(ListState::name);
        let kept = names.filter(|name| !new(name)).map(str::to_owned).collect();
        (ready, kept)
    }

    /// Puts joined lists in force.
    pub(crate) fn finish_joining(&mut self, joined: Result<Joined, Vec<u64>>) {
        self.delta.joining = false;
        self.delta.joining_config = false;
        let now = Instant::now();
        let joined = match joined {
            Ok(joined) => joined,
            Err(tickets) => return self.fail_joining(tickets),
        };
        if self.delta.joining_since != self.rollback.epoch {
            // What was joined is newer than what is held: who waited for it was told. There is no
            // configuration in it, as nobody is heard while one is joined.
            return;
        }
        let image = match joined.result {
            Ok(image) => image,
            Err(error) => {
                let based = joined.base.into_iter().flat_map(|base| base.wanted);
                let based: Vec<_> = based.map(|wanted| wanted.ticket).collect();
                let staged = joined.pending.is_some();
                return self.refuse_joined(joined.ready, &based, staged, error);
            }
        };
        // Changes of the configuration alone leave the images as they are, so that they push out no older ones.
        let delta = self.publication.images.delta.as_ref();
        let sources = delta.map_or(&[][..], |delta| &delta.provenance().sources);
        let is_same = joined.base.is_none() && image.provenance().sources == sources;
        if !is_same {
            self.publication.images.delta = Some(image.into());
            self.persist.is_dirty = true;
        }
        if let Some(base) = joined.base {
            self.take_base(base);
        }
        for ready in joined.ready {
            let Ready {
                ticket,
                config,
                fresh,
            } = ready;
            self.publication
                .change(self.cause_of(ticket, &config.source.path));
            let name = config.source.name;
            if let Some(list) = self
                .lists
                .active
                .iter_mut()
                .find(|list| has_load(list, ticket))
            {
                list.settle(Ok(fresh.loaded), now);
            }
            self.requests
                .settle(ticket, |report| report.loaded.push(name.clone()));
        }
        if let Some((pending, registry)) = joined.pending {
            self.adopt_pending(pending, registry);
        }
        self.compiler.weigh_delta(self.publication.delta_rules());
    }

    /// Joining broke off inside: what is in force stays, and nobody waits any more.
    fn fail_joining(&mut self, tickets: Vec<u64>) {
        for ticket in tickets {
            let list = self.lists.active.iter().find(|list| has_load(list, ticket));
            match list.map(broken) {
                Some(refusal) => self.refuse(ticket, refusal),
                None => self.requests.dismiss(ticket),
            }
        }
        if self.requests.waiting.iter().any(|waiting| waiting.staged)
            && self.lists.pending.is_none()
        {
            self.drop_pending(vec!["configuration not taken: joining broke off inside tapis, which is a bug; please report it".to_owned()]);
        }
    }

    /// Takes a new base.
    pub(crate) fn take_base(&mut self, new: NewBase) {
        if !new.moved.is_empty() {
            self.publication.change(Cause::Merge);
        }
        for (wanted, loaded) in new.loaded() {
            self.publication
                .change(self.cause_of(wanted.ticket, &wanted.config.source.path));
            let name = wanted.config.source.name.clone();
            if let Some(list) = self
                .lists
                .active
                .iter_mut()
                .find(|list| has_load(list, wanted.ticket))
            {
                log_load(list, Ok(&loaded));
                list.settle(Ok(loaded), Instant::now());
            }
            self.requests
                .settle(wanted.ticket, |report| report.loaded.push(name.clone()));
        }
        self.publication.images.base = Some(new.base.image);
        self.persist.base_file = Some(new.base.place);
    }

    fn refuse_joined(&mut self, ready: Vec<Ready>, based: &[u64], staged: bool, source: TooLarge) {
        let tickets = ready.iter().map(|ready| ready.ticket);
        for ticket in tickets.chain(based.iter().copied()) {
            let list = self.lists.active.iter().find(|list| has_load(list, ticket));
            let path = list.map_or_else(Default::default, |list| list.source.path.clone());
            self.refuse(ticket, Refusal::TooLarge { path, source });
        }
        if staged {
            self.drop_pending(vec![format!("configuration not taken: {source}")]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::config::Config;
    use crate::control::admin::requests::Waiting;
    use crate::control::sources::files::Files;
    use crate::control::sources::orders::registry::OrderRegistry;
    use crate::control::sources::wall_clock::Still;

    /// A control plane that has read all lists of a new configuration, which somebody waits for.
    fn staged(
        folder: &Path,
    ) -> (
        Control,
        oneshot::Receiver<crate::control::admin::status::ReloadReport>,
    ) {
        fs::create_dir_all(folder.join("orders")).expect("made");
        let config = |more: &str| {
            let text = format!("[orders]\npath = \"orders\"\n{more}");
            Config::parse(&text, &folder.join("tapis.toml")).expect("valid")
        };
        let control = Control::start(config(""), Arc::new(Still));
        let mut control = control.expect("a first generation");
        let guard_policy = Arc::clone(&control.guard_policy);
        let new = config("[server]\nid = \"other.example\"\n");
        let pending = PendingConfig::new(
            new,
            guard_policy,
            None,
            &control.lists.active,
            &Files::new(),
        );
        control.lists.pending = Some(pending);
        let (reply, answer) = oneshot::channel();
        let mut waiting = Waiting::new(Cause::Start, Some(reply));
        waiting.staged = true;
        control.requests.waiting.push(waiting);
        (control, answer)
    }

    /// What the control loop does in a turn that concerns a new configuration.
    fn turn(control: &mut Control) {
        control.finish_pending();
        control.start_reading_new_orders();
        control.start_joining();
        control.answer_waiting();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_configuration_whose_orders_are_never_read_is_given_up_and_stops_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut control, mut answer) = staged(folder.path());
        let hung = vec![folder.path().join("orders")];
        control.configuration.orders.hang(hung, "orders".to_owned());
        turn(&mut control);
        assert!(
            !control.delta.joining && !control.delta.joining_config,
            "others are heard"
        );
        let pending = control.lists.pending.as_mut().expect("it waits");
        let since = Instant::now().checked_sub(Duration::from_secs(31));
        pending.book_since = Some(since.expect("the machine has run for longer"));
        turn(&mut control);
        let report = answer.try_recv().expect("it is answered");
        let [problem] = &report.problems[..] else {
            panic!("{:?}", report.problems);
        };
        assert!(problem.contains("orders: not read in 31 s"), "{problem}");
        assert!(control.configuration.current.server.id.is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn orders_that_changed_while_those_of_a_new_configuration_were_read_are_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut control, _answer) = staged(folder.path());
        turn(&mut control);
        let mut newer = OrderRegistry::clone(&control.scheduler.registry);
        let order = folder.path().join("orders/a.toml");
        fs::write(&order, "no order").expect("written");
        assert_eq!(newer.refresh(), [order]);
        control.scheduler.registry = Arc::new(newer);
        while !control.delta.joining {
            let event = control.next_file_event().await;
            control.route(event);
            turn(&mut control);
        }
        let joined = control.delta.joined.1.recv().await.expect("it ends");
        control.finish_joining(joined);
        assert_eq!(
            control.configuration.current.server.id.as_deref(),
            Some("other.example")
        );
        assert_eq!(
            control.scheduler.registry.problems().len(),
            1,
            "of the newer file"
        );
    }
}
