"""An installation with a mail server, and eSIMs to write of."""

from tests.mailbox import mailbox, mailing_house, smtp  # noqa: F401 - fixtures
from tests.services.esims.conftest import (  # noqa: F401 - fixtures
    activations,
    make_activations,
    provider,
    supplier,
)
