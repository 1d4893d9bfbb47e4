"""
How often the garbage collector looks at everything.

By itself Python does so whenever what it knows has grown by a quarter. With thousands of activations waiting that is every few
seconds, each time for a quarter of a second or more in which nobody is served, and it finds next to nothing. It still has to come:
errors that are raised again and again (thousands of answers that wait for a database) leave garbage that only it can find.
"""

import gc

_RARELY = 300
"""Looks at what is middle-aged between two looks at everything. Each stands for some 7,000 objects more: two million in all."""


def spare_the_loop() -> None:
    """What is there already is never looked at again; all that comes later far more seldom than by default."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _RARELY)
    gc.collect()
    gc.freeze()
