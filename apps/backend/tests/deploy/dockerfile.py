"""`deploy/Dockerfile`, read: its stages and their instructions, with continued lines joined."""

import json
import re
import shlex
from dataclasses import dataclass, field

from app.settings import BACKEND_DIR

ROOT = BACKEND_DIR.parents[1]
DEPLOY = ROOT / "deploy"


@dataclass
class Stage:
    """
    Attributes:
        base: the image that it is made from.
        steps: instruction and arguments, in their order; for HEALTHCHECK only its command.
    """

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]

    def environment(self) -> dict[str, str]:
        pairs = [shlex.split(arguments) for arguments in self.all("ENV")]
        return dict(one.split("=", 1) for pair in pairs for one in pair)

    def command(self, instruction: str) -> list[str]:
        """The words of an ENTRYPOINT, CMD or HEALTHCHECK that is written as a list."""
        [arguments] = self.all(instruction)
        words: list[str] = json.loads(arguments)
        return words


def stages() -> list[Stage]:
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        instruction, _, arguments = line.strip().partition(" ")
        if instruction == "FROM":
            found.append(Stage(arguments.split()[0]))
        elif instruction == "HEALTHCHECK":
            found[-1].steps.append((instruction, arguments.partition("CMD ")[2]))
        elif instruction:
            found[-1].steps.append((instruction, arguments))
    return found
