"""Tests of what travellers read."""
