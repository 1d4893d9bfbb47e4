"""An installation whose messages arrive."""

from tests.mailbox import mailbox, mailing_house, smtp  # noqa: F401 - fixtures
