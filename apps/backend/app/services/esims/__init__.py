"""eSIMs: activating an order once, settling what was left open, and showing the result."""
