//! The program `fajma`.

use std::process::ExitCode;

/// Records are made on one thread and let go on another, which this allocator does cheaply.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    app::run(std::env::args_os())
}
