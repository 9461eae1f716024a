//! All integration tests, as one program.

mod answers;
mod bare;
mod cli;
mod compile;
mod configuration;
mod exceptions;
mod faulty;
mod guard;
mod hanging;
mod hostile;
mod house;
mod journal;
mod lists;
mod log;
mod orders;
mod peers;
mod quirks;
mod refusals;
mod reload;

mod resolving;
mod respond;
mod road;
mod rollback;
mod serving;
mod shipped;
mod signals;
mod socket;
mod state;
mod story;
mod streams;
mod support;
mod swap;
mod twins;
mod upstreams;
