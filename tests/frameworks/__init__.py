"""Tests against the training frameworks themselves, which `make frameworks` installs: real scripts in processes of their own, whose journals are read afterwards."""
