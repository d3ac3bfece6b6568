"""Showers drawn from tables of what reference showers look like.

`model` is the system; `lateral` shares the energy of a layer out over its cells, `quantiles` holds
distributions as tables, `spectra` the distribution of a cell about its mean energy.
"""
