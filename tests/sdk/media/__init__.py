"""Rich values: what each kind takes, and what is told of bad input."""
