"""Property tests here have no deadline: the machine is shared, and a slow example says nothing about the code."""

from hypothesis import settings

settings.register_profile("rules", deadline=None)
settings.load_profile("rules")
