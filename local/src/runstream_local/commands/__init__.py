"""The subcommands that this folder gives to `runstream`: up, status, down, sql, runs."""
