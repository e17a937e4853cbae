"""What python -m launch.benchmark can measure, a module each. NOTES.md holds what was measured."""
