"""
The console: stock Flower, with access control and pages of ours, opened through its own configuration file.

Nothing of Flower is imported here: `celery` calls `announce` before it knows whether Flower is installed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["CONFIGURATION", "announce", "configuration_of_the_deployment"]

CONFIGURATION = Path(__file__).with_name("flowerconfig.py")

_THEIRS = "PLATFORM_CONSOLE_FLOWER_CONF"


def announce() -> None:
    """
    Let Flower read our configuration file; the one that `FLOWER_CONF` names is read by ours.

    Ends the process with a sentence and exit code 2 when ``--conf`` is on the command line: Flower would then never
    read ours, and would run without roles.
    """
    named = next((word for word in sys.argv if word.startswith("--conf")), None)
    if named is not None:
        sys.stderr.write(
            f"{named} would replace the platform's own configuration of Flower, and its access control with it. "
            "Name your file in the environment: FLOWER_CONF=flowerconfig.py; it is read as well.\n"
        )
        raise SystemExit(2)
    given = os.environ.get("FLOWER_CONF", "")
    if given != str(CONFIGURATION):
        os.environ[_THEIRS] = given
        os.environ["FLOWER_CONF"] = str(CONFIGURATION)


def configuration_of_the_deployment() -> Path | None:
    """
    Return the Flower configuration of the deployment: what `FLOWER_CONF` named, else ``flowerconfig.py``, else none.
    """
    given = os.environ.get(_THEIRS, "")
    if given:
        return Path(given)
    beside = Path.cwd() / "flowerconfig.py"
    return beside if beside.is_file() else None
