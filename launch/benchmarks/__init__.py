"""The benchmarks of launch.benchmark and their parts. NOTES.md has what was measured."""
