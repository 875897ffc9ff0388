"""The command `nnit`: `main.py` from arguments to exit code, and a module for each subcommand."""
