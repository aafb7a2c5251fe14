"""Key-Token Advantage Estimation (KTAE) for OpenRLHF."""

__version__ = "0.1.0"
