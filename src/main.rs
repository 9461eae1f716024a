//! The program `tapis`; see the library.

fn main() -> std::process::ExitCode {
    tapis::cli::main()
}
