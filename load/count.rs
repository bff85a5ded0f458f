//! Runs one step of `load/steps.rs` so many times, for `load/instructions`: `count STEP TIMES`; without words it lists
//! the steps.

#![allow(clippy::expect_used, reason = "a tool may end where it stands")]

mod steps;

/// Under valgrind, keys by the ten thousands would take minutes to make.
const KEYS: usize = 1000;

fn main() {
    let mut words = std::env::args().skip(1);
    let name = words.next();
    let times = words.next().and_then(|text| text.parse().ok());
    for mut step in steps::steps(KEYS) {
        match &name {
            None => println!("{}\t{}", step.name, step.bytes),
            Some(name) if *name == step.name => (0..times.unwrap_or(1)).for_each(|_| (step.run)()),
            Some(_) => {}
        }
    }
}
