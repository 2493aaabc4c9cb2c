"""Tests of the producing side: journal, frames, shipper, agent, hardware."""
