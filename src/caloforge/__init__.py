"""CaloForge: fast calorimeter simulation with generative models, from reference showers to a
judged, deployable generator.
"""

__version__ = "0.1.0"
