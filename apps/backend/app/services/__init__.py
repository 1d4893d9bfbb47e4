"""What Tribi does, a package for each of its subjects."""
