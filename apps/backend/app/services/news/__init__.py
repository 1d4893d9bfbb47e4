"""What providers tell of eSIMs that they have sold: received once, applied by their own time, told on."""
