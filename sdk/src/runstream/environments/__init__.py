"""Rebuilding what a run had installed: a requirements file, a virtual environment, an environment of conda's.

from runstream import environments

built = environments.venv("digits/baseline", "rebuilt")
for one in built.missing:
    print(one.name, one.version, one.reason)

What a run had is read from its params `environment.*`, which the first rank records at its start (setting `capture`), over ClickHouse's HTTP interface as `runstream.read` does.
"""

from runstream.environments._build import Built, Missing, conda, requirements, venv
from runstream.environments._recorded import EnvironmentsError, Origin, Recorded, recorded

__all__ = ["Built", "EnvironmentsError", "Missing", "Origin", "Recorded", "conda", "recorded", "requirements", "venv"]
