"""The README's examples for each platform, run on the platforms' own runtimes."""
