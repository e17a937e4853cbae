"""The commands: each module parses flags, reads gin and calls the package."""
