"""What runs in the background: the queue's worker and its timetable."""
