"""Tribi: sells and provisions travel eSIMs. One paid order becomes exactly one eSIM."""
