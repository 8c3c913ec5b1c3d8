"""Simulators, and the run that drives them."""
