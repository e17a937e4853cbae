"""Reading flags and gin files, and checking every value in them."""
