//! Owns which files the control loop follows: those that are watched, and what was heard of them.
//! Refuses to read them: it has them read when they are due.

use std::path::PathBuf;

use tokio::time::Instant;

use super::journal::entry::Cause;
use super::reload::Control;
use super::state::ListState;
use super::watch::Touched;

impl Control {
    /// Something happened to a file, or on the way to one.
    pub(super) fn touch(&mut self, touched: &Touched) {
        let now = Instant::now();
        self.all_lists().for_each(|list| list.touch(touched, now));
        self.calendar.book.touch(touched, now);
        let on_the_way = |list: &mut ListState| list.path().starts_with(&touched.path);
        let watched: Vec<_> = self.calendar.book.watched().collect();
        let of_orders = watched.iter().any(|path| path.starts_with(&touched.path));
        if of_orders || self.all_lists().any(on_the_way) {
            // A directory on the way may be another one now.
            self.follow();
        }
    }

    /// Looks at all files.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        self.all_lists().for_each(|list| list.sweep(now));
        self.tell_aged();
        tokio::task::block_in_place(|| self.calendar.book.sweep(now));
        self.look_at_the_clock();
        if self.journal.known() >= self.generation() {
            // It was opened late: what is in force gets a number that comes after those in it.
            self.change(Cause::Start);
        }
        self.follow();
    }

    /// Watches the files that count now.
    pub(super) fn follow(&mut self) {
        if let Some(watch) = &mut self.watch {
            let staged = self.stage.iter().flat_map(|stage| &stage.fresh);
            let all = self.lists.iter().chain(staged);
            let folders: Vec<_> = self.calendar.book.watched().collect();
            let folders = folders.iter().map(|folder| &**folder);
            let failed = watch.follow(all.map(ListState::path).chain(folders));
            let text = |path: &PathBuf| {
                format!(
                    "{}: can't be watched; looked at every two seconds",
                    path.display()
                )
            };
            self.unwatched = failed.iter().map(text).collect();
        }
    }
}
