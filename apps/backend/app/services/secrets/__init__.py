"""Secrets that Tribi itself keeps: which key they are sealed with, and sealing them anew under another one."""
