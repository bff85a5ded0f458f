//! A core's state on a thread that is none of the workers, for requests of the process's own.
//!
//! The admin port runs its playground with it. Whatever it does is counted with the first worker.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::{Control, Current, random_prefix, worker};
use crate::keys::KeyStore;
use crate::net::{self, Deadlines};
use crate::plan::Plan;
use crate::worker::{Ties, Worker};

/// A core's state outside the workers.
pub struct Guest(Rc<Worker>);

impl Guest {
    /// The state, with the configuration as it runs now.
    pub fn worker(&mut self, control: &Control) -> Rc<Worker> {
        let Current {
            config, connectors, ..
        } = control.current();
        if !Arc::ptr_eq(&config, &self.0.config) {
            let plan = Rc::new(Plan::new(&config, &connectors));
            let deadlines = &self.0.deadlines;
            let upstreams = worker::upstreams(&config, &plan, &control.resolver, deadlines);
            self.0 = Rc::new(self.0.successor(config, plan, upstreams));
            net::spawn(self.0.clone().keep_upstreams());
        }
        self.0.clone()
    }
}

impl Control {
    /// A core's state for a thread that is none of the workers: what it does is counted with the first of them.
    pub fn guest(&self, keys: &KeyStore, deadlines: &Rc<Deadlines>) -> io::Result<Guest> {
        let Current {
            config, connectors, ..
        } = self.current();
        let plan = Rc::new(Plan::new(&config, &connectors));
        let upstreams = worker::upstreams(&config, &plan, &self.resolver, deadlines);
        let first = self.shared.metrics.cores().into_iter().next();
        let ties = Ties {
            shared: self.shared.clone(),
            keys: keys.clone(),
            metrics: first.unwrap_or_default(),
            usage: self.usage.recorder(),
            memory: self.memory.clone(),
        };
        let prefix = random_prefix()?;
        let worker = Worker::new(config, plan, upstreams, deadlines.clone(), ties, prefix);
        let worker = Rc::new(worker);
        net::spawn(worker.clone().keep_upstreams());
        Ok(Guest(worker))
    }
}
