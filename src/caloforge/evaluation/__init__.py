"""Judging showers: observables, distances with errors and floors, comparison, results."""
