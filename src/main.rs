//! The program: arguments to library to exit code.

fn main() -> std::process::ExitCode {
    tapis::cli::main()
}
