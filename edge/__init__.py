"""What a device can do: told everything, it answers by value.

Nothing here reads settings, prints, starts a thread or sleeps. Import the module you need
(`from edge.matcher import Matcher`); the package itself costs nothing to import.
"""

from edge.errors import ShelfsightError

__all__ = ["ShelfsightError"]
