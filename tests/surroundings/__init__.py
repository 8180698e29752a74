"""The package among other software: a matrix of scripts, each run in a process of its own."""
