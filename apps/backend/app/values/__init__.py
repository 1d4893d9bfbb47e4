"""Values: parsed once, then trusted. Pure; imports nothing of the rest of Tribi, re-exports nothing."""
