"""The one error of this room."""


class EmbeddedPostgresError(Exception):
    """The server can't be had. str() is one line that names the cause and what to do."""
