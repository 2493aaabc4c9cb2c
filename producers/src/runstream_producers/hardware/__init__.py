"""Readings of the machine for the agent: node and processes by psutil, GPUs by NVML, InfiniBand from sysfs. `names` has every reading with its unit; docs/hardware.md is made for people."""

from runstream_producers.hardware.sampler import Sampler

__all__ = ["Sampler"]
