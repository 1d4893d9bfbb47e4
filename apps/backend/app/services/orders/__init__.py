"""Orders: placing them once, and showing them."""
