"""Property tests here have no deadline: the machine is shared, and a slow example says nothing about the code."""

from hypothesis import settings

settings.register_profile("schemas", deadline=None, max_examples=80)
settings.load_profile("schemas")
