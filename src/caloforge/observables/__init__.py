"""What one measures of a shower: families of observables, each a pure function of arrays."""
