//! The program: everything is in the library, the command line in [`edgeweir::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    edgeweir::cli::main()
}
